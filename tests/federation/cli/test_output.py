import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.cli.output import Format, Table, clean, coloured, put_value


def test_columns_are_aligned_and_later_rows_follow() -> None:
    table = Table(["NAME", "READY", "REASON"], [["eu-west", "True", ""], ["a", "False", "gone"]])
    assert table.lines(colour=False) == [
        "NAME      READY   REASON",
        "eu-west   True    -",
        "a         False   gone",
    ]
    assert table.line(["longer-name", "True", ""], colour=False) == "longer-name   True    -"
    assert Table(["A", "B"]).lines(colour=False) == ["A   B"]


def test_colour_does_not_change_the_text() -> None:
    table = Table(["NAME", "READY"], [["a", "False"]])
    head, line = table.lines(colour=True)
    assert "\x1b[" in head
    assert "\x1b[31mFalse" in line


@given(st.text())
def test_no_control_character_reaches_a_terminal(text: str) -> None:
    assert all(c.isprintable() for c in clean(text))


def test_an_escape_sequence_from_elsewhere_is_defused() -> None:
    assert clean("a\x1b[2Jb\r\nc") == "a [2Jb  c"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert coloured(Terminal())
    assert not coloured(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not coloured(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "")
    assert not coloured(Terminal())


def test_json_and_yaml_keep_the_order_of_keys(capsys: pytest.CaptureFixture[str]) -> None:
    put_value({"b": "ü", "a": [1]}, Format.JSON)
    assert capsys.readouterr().out == '{\n  "b": "ü",\n  "a": [\n    1\n  ]\n}\n'
    put_value({"b": "ü", "a": [1]}, Format.YAML)
    assert capsys.readouterr().out == "b: ü\na:\n- 1\n"
