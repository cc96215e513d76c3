import json

import pytest
import yaml

from federation.cli import rollout_follow
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane
from tests.federation.cli.fake_rollouts import status


@pytest.fixture(autouse=True)
def rollouts(plane: FakeControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_follow, "_pause", lambda: None)
    plane.put("rollouts", "m-1", {"model": "m", "version": 1}, status("rolled-back"))
    plane.put("rollouts", "m-2", {"model": "m", "version": 2}, status())
    plane.put("rollouts", "n-1", {"model": "n", "version": 1}, status("promoted"))


def test_all_are_listed(fed: Fed) -> None:
    head, *rows = fed("rollout", "get").out.splitlines()
    assert head.split() == [
        *("NAME", "MODEL", "VERSIONS", "PHASE", "WAVE", "TRAFFIC", "AGE", "REASON")
    ]
    assert [row.split()[0] for row in rows] == ["m-1", "m-2", "n-1"]
    assert "eu=5%" in rows[1]
    assert "1/2" in rows[1]
    assert fed("get", "ro", "-o", "name").out.splitlines()[0] == "rollout/m-1"


def test_one_is_a_tree(fed: Fed) -> None:
    for name in ("m-2", "m"):
        told = fed("rollout", "get", name)
        assert told.code == 0
        assert told.out.startswith("rollout/m-2   m 1 → 2   baking, wave 1 of 2, step 1 of 3")
    assert "baking, wave 1 of 2" in fed("describe", "rollout", "m-2").out
    assert fed("rollout", "get", "m", "-o", "name").out == "rollout/m-2\n"
    assert json.loads(fed("rollout", "get", "m", "-o", "json").out)["metadata"]["name"] == "m-2"
    assert yaml.safe_load(fed("rollout", "get", "m", "-o", "yaml").out)["spec"]["version"] == 2


def test_an_unknown_name_has_near_misses(fed: Fed) -> None:
    missing = fed("rollout", "get", "m-3")
    assert missing.code == 3
    assert "Did you mean" in missing.err
    assert "fed rollout start" in missing.err
    assert fed("rollout", "history", "x").code == 3
    assert fed("rollout", "get", "m", "-w", "-o", "yaml").code == 1


def test_watching_ends_with_the_rollout(fed: Fed, plane: FakeControlPlane) -> None:
    phases = iter(("baking", "baking", "rolling-back", "rolled-back"))

    def step() -> None:
        plane.objects["rollouts"]["m-2"]["status"] = status(next(phases))

    plane.on_read = step
    told = fed("rollout", "get", "m-2", "-w")
    assert told.code == 0
    heads = [line for line in told.out.splitlines() if line.startswith("rollout/")]
    assert [head.split("   ")[2].split(",")[0] for head in heads] == [
        *("baking", "rolling-back", "rolled-back")
    ]


@pytest.mark.parametrize(
    ("phase", "code"), [("promoted", 0), ("rolled-back", 1), ("failed", 1), ("paused", 7)]
)
def test_status_answers_by_its_exit_code(
    fed: Fed, plane: FakeControlPlane, phase: str, code: int
) -> None:
    plane.put("rollouts", "m-2", {"model": "m", "version": 2}, status(phase, pause="gate"))
    told = fed("rollout", "status", "m-2")
    assert told.code == code
    assert told.out.startswith(f"rollout/m-2 {phase} (gate)")


def test_status_waits(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("rollout", "status", "m", "--wait", "--timeout", "0").code == 7
    plane.on_read = lambda: plane.objects["rollouts"]["m-2"].update(status=status("promoted"))
    assert fed("rollout", "status", "m", "--wait").code == 0


def test_history_is_of_a_model_or_of_one_rollout(fed: Fed) -> None:
    rows = fed("rollout", "history", "m").out.splitlines()
    assert rows[0].split()[:5] == ["NAME", "MODEL", "FROM", "TO", "PHASE"]
    assert {row.split()[0] for row in rows[1:]} == {"m-1", "m-2"}
    assert "user/ann" in rows[1]
    passages = fed("rollout", "history", "m-2").out.splitlines()
    assert passages[1].split()[2:8] == ["accepted", "pending", "pending", "1", "1", "user/ann"]
    assert len(fed("rollout", "history", "-o", "name").out.splitlines()) == 3
    assert len(json.loads(fed("rollout", "history", "m", "-o", "json").out)["items"]) == 2
    assert json.loads(fed("rollout", "history", "m-1", "-o", "json").out)["kind"] == "Rollout"


def test_there_are_none_yet(fed: Fed, plane: FakeControlPlane) -> None:
    plane.objects["rollouts"].clear()
    told = fed("rollout", "history")
    assert (told.out, told.err) == ("", "There are no rollouts yet.\n")
