import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from federation.identity.tokens import TokenKind, derive, mint
from tests.secret_watch import BODY, WATCH, Watch

ROOT = Path(__file__).resolve().parents[1]
log = logging.getLogger("federation.test")

LEAKY = """
import logging
from federation.identity.tokens import TokenKind, mint

log = logging.getLogger("router.somewhere")

def test_that_leaks():
    log.debug("joining with %s", mint(TokenKind.JOIN, "c"))

def test_that_does_not():
    log.warning("joining as %s with %s", "c", mint(TokenKind.JOIN, "c")[:20])
"""


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    return log.makeRecord(log.name, logging.INFO, __file__, 1, message, args, None, extra=extra)


def watching(token: str) -> Watch:
    watch = Watch()
    watch.made.add(token[-BODY:])
    return watch


@pytest.mark.parametrize(
    "leak",
    [
        lambda token: record(f"got {token}"),
        lambda token: record("got %s", token),
        lambda token: record("got %s", {"authorization": f"Bearer {token}"}),
        lambda token: record("got", token=token),
        lambda token: record("got %s", token[-BODY:]),
        lambda token: record(f"x{token}x"),
        lambda token: logging.makeLogRecord(
            {"msg": "failed", "exc_info": (ValueError, ValueError(token), None)}
        ),
    ],
)
def test_a_token_is_seen_wherever_it_stands(leak: Any) -> None:
    token = mint(TokenKind.USER, "ada")
    watch = watching(token)
    watch.look(leak(token))
    assert len(watch.take()) == 1
    assert watch.take() == []


def test_other_words_are_none() -> None:
    watch = watching(mint(TokenKind.USER, "ada"))
    watch.look(record("got %s", mint(TokenKind.USER, "ada")))
    watch.look(record("x" * 100, digest="0" * 64))
    assert watch.take() == []


def test_every_token_of_this_process_is_known() -> None:
    made = [mint(TokenKind.ADMIN, "a"), derive(TokenKind.JOIN, "c", key="k", purpose="p")]
    assert {token[-BODY:] for token in made} <= WATCH.made


def test_what_is_below_the_level_is_looked_at_but_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = mint(TokenKind.ADMIN, "a")
    log.info("the token is %s", token)
    log.warning("a warning")
    assert len(WATCH.take()) == 1
    assert [each.message for each in caplog.records] == ["a warning"]


def test_a_test_that_leaks_fails(tmp_path: Path) -> None:
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.secret_watch"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 passed, 1 error" in done.stdout
    assert "router.somewhere logged a token at 8, in " in done.stdout
    assert "test_leaky.py::test_that_leaks" in done.stdout
    assert "fed_join_c_" not in done.stdout.partition("Captured log")[0].partition("ERRORS")[2]
