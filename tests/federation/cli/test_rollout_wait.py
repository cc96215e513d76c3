from typing import Any

import pytest

from federation.cli import rollout_follow
from federation.cli.exits import WaitNotMet, exit_code
from federation.cli.rollout_wait import RolloutFailed, check_end, wait_until_over
from federation.contract.errors import Unavailable
from tests.federation.cli.fake_rollouts import status


class Asked:
    """A client that reads one document after the other, the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    def get(self, *_path: str) -> Any:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"metadata": {"name": "r"}, "status": answer}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_follow, "_pause", lambda: None)


def wait(*answers: Any, timeout_s: float = 5.0) -> Any:
    return wait_until_over(Asked(*answers), "r", timeout_s=timeout_s)  # type: ignore[arg-type]


def test_a_promotion_is_a_success() -> None:
    assert wait(status("staging"), Unavailable("away."), status("promoted"))["status"]["over"]


@pytest.mark.parametrize("phase", ["rolled-back", "failed"])
def test_another_end_is_a_failure(phase: str) -> None:
    with pytest.raises(RolloutFailed, match="p95") as refused:
        wait(status(), status(phase, reason="p95 +38 % in us-east, limit +20 %"))
    assert exit_code(refused.value) == 1


def test_time_runs_out() -> None:
    with pytest.raises(WaitNotMet, match="baking, wave 1 of 2, step 1 of 3: 5 % becomes") as late:
        wait(status(), timeout_s=0.0)
    assert exit_code(late.value) == 7


def test_the_verdict_is_the_reason_where_there_is_no_other() -> None:
    with pytest.raises(RolloutFailed, match="too few requests"):
        check_end({"status": status("rolled-back")}, "r")
