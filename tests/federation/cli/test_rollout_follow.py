import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from federation.cli import rollout_follow
from federation.cli.documents import Json
from federation.cli.output import Format
from federation.cli.rollout_follow import essence, follow
from federation.contract.errors import Unavailable
from tests.federation.cli.fake_rollouts import status


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_follow, "_pause", lambda: None)


def answers(*told: Any) -> Iterator[Any]:
    yield from told


def asking(*told: Any) -> Any:
    left = answers(*told)

    def ask() -> Json:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return {"metadata": {"name": "r"}, "spec": {"model": "m"}, "status": answer}

    return ask


def test_elsewhere_only_news_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    moved = status()
    moved["waves"][1]["regions"][0]["clusters"][0]["done_bytes"] = 90
    ask = asking(status(), moved, Unavailable("away."), Unavailable("away."), status("promoted"))
    assert follow(ask, Format.TABLE)["status"]["over"]
    captured = capsys.readouterr()
    assert captured.out.count("rollout/r") == 2
    assert captured.err.count("away.") == 1


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    follow(asking(status(), status(), status("failed")), Format.JSON)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["type"], each["object"]["status"]["phase"]) for each in told] == [
        ("ADDED", "baking"),
        ("MODIFIED", "failed"),
    ]


def test_a_terminal_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    follow(asking(status(), status("promoted")), Format.TABLE)
    text = terminal.getvalue()
    assert "\x1b[10A\x1b[J" not in text.partition("rollout/r")[0]
    assert text.count("A\x1b[J") == 1
    assert max(map(len, text.split("\n"))) <= 45


def test_running_numbers_are_no_news() -> None:
    document = {"status": status()}
    other = {"status": {**status(), "since": "later", "waves": []}}
    assert essence(document) == essence(other)
    assert essence(document) != essence({"status": status("paused")})
