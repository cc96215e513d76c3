"""Log lines are JSON with fixed keys, and no secret passes."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from federation.runtime.telemetry import redact, set_up_logging


@pytest.fixture(autouse=True)
def _restore_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_json_with_extras() -> None:
    stream = io.StringIO()
    set_up_logging("router", stream=stream)
    logging.getLogger("x").info("hello %s", "world", extra={"cluster": "eu-west"})
    line = json.loads(stream.getvalue())
    assert line["msg"] == "hello world"
    assert line["component"] == "router"
    assert line["level"] == "info"
    assert line["cluster"] == "eu-west"
    assert line["ts"].endswith("+00:00")


def test_an_exception_is_in_its_line() -> None:
    stream = io.StringIO()
    set_up_logging("router", stream=stream)
    try:
        int("broken")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert "ValueError: invalid literal" in json.loads(stream.getvalue())["exception"]


def test_a_terminal_gets_short_lines() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    set_up_logging("agent", stream=stream)
    logging.getLogger("x").warning("token fed_admin_ops_%s", "abcdefgh12345678")
    assert "WARNING agent token fed_admin_ops_***" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fed_join_eu-west-1_Zm9vYmFyYmF6cXV4", "fed_join_eu-west-1_***"),
        ("Authorization: Bearer abc.def-ghi_jkl", "Authorization: Bearer ***"),
        ("nothing secret", "nothing secret"),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    assert redact(text) == shown
