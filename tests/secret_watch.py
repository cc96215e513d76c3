"""A pytest plugin: a test fails if a log record holds a token that was made in this process.

Input: every token that `federation.identity.tokens` makes, every record that a logger of ours
makes, whatever its level. Output: an error at the end of the test in which it was logged. Records
are looked at before any formatter redacts them: redaction is the last line, not the first.
"""

import logging
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from federation.identity import tokens

PACKAGES = ("federation", "router", "edge_agent")
BODY = 43  # characters: 32 bytes in base64
_RUN = re.compile(rf"[A-Za-z0-9_-]{{{BODY},}}")
_STANDARD = frozenset(vars(logging.makeLogRecord({})))


class Watch:
    """Knows the tokens made so far, and the leaks found so far."""

    def __init__(self) -> None:
        self.made: set[str] = set()  # the bodies of tokens
        self.leaks: list[str] = []

    def look(self, record: logging.LogRecord) -> None:
        """Note a record that holds a token."""
        told = [record.getMessage(), repr(record.args)]
        told += [f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD]
        if record.exc_info and record.exc_info[1]:
            told.append(repr(record.exc_info[1]))
        if any(self._holds_one(run) for run in _RUN.findall("\n".join(told))):
            test = os.environ.get("PYTEST_CURRENT_TEST", "no test")
            self.leaks.append(f"{record.name} logged a token at {record.lineno}, in {test}")

    def _holds_one(self, run: str) -> bool:
        return any(run[at : at + BODY] in self.made for at in range(len(run) - BODY + 1))

    def take(self) -> list[str]:
        """Return the leaks found since the last call."""
        leaks, self.leaks = self.leaks, []
        return leaks


WATCH = Watch()


def pytest_configure(config: pytest.Config) -> None:
    """Start watching, for as long as the process lives."""
    make = tokens._join

    def make_and_tell(kind: tokens.TokenKind, id: str, secret: bytes) -> str:
        text = make(kind, id, secret)
        WATCH.made.add(text[-BODY:])
        return text

    tokens._join = make_and_tell
    handle = logging.Logger.handle

    def look_and_handle(self: logging.Logger, record: logging.LogRecord) -> None:
        WATCH.look(record)
        if _only_for_us(self) and record.levelno < logging.root.level:
            return
        handle(self, record)

    logging.Logger.handle = look_and_handle  # type: ignore[method-assign]
    for name in PACKAGES:
        logging.getLogger(name).setLevel(logging.DEBUG)


def _only_for_us(logger: logging.Logger) -> bool:
    """Whether a logger makes records below the root's level only since we set its package's."""
    parent: logging.Logger | None = logger
    while parent is not None and not parent.level:
        parent = parent.parent
    return parent is not None and parent.name in PACKAGES


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[Any]:
    """Fail the test that just ended if something leaked."""
    result = yield
    if leaks := WATCH.take():
        pytest.fail("\n".join(leaks), pytrace=False)
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session if something leaked outside of any test."""
    if WATCH.take():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
