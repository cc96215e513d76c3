"""Tables that are drawn again; `test_sync` and `test_top` follow real rows."""

import pytest

from federation.cli import live
from federation.cli.documents import Json
from federation.cli.output import Format, Table
from federation.contract.errors import Unavailable


def test_changed_rows_follow_and_an_absence_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = Unavailable("the control plane is away.")
    answers: list[list[Json] | Exception] = [
        [{"n": 1, "v": 1}, {"n": 2, "v": 1}],
        away,
        away,
        [{"n": 1, "v": 1}, {"n": 2, "v": 5}],
        KeyboardInterrupt(),  # type: ignore[list-item]
    ]

    def ask() -> list[Json]:
        answer = answers.pop(0)
        if isinstance(answer, list):
            return answer
        raise answer

    monkeypatch.setattr(live, "_pause", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        live.follow(
            ask,
            lambda rows: Table(["N", "V"], [[str(row["n"]), str(row["v"])] for row in rows]),
            lambda row: row["n"],
            Format.TABLE,
        )
    told = capsys.readouterr()
    assert [line.split() for line in told.out.splitlines()] == [
        ["N", "V"],
        ["1", "1"],
        ["2", "1"],
        ["2", "5"],
    ]
    assert told.err.count("away") == 1
