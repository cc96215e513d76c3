"""Log lines are JSON with fixed keys, and no secret passes."""

import io
import json
import logging
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


PEM = (
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY/PuoAoGCCqGSM49\n"
    "AwEHoUQDQgAEPR3tU2Fta9ktY+6P9G0cWO+0kETA6SFs38GecTyudlHz6xvCdz8q\n"
    "-----END EC PRIVATE KEY-----"
)
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fed_join_eu-west-1_Zm9vYmFyYmF6cXV4", "fed_join_eu-west-1_***"),
        ("fed_routerjoin_r1_Zm9vYmFyYmF6cXV4.", "fed_routerjoin_r1_***."),
        (
            "fed_key_k1_Zm9v_YmFy-YmF6cXV4, fed_user_ada_Zm9vYmFyYmF6",
            "fed_key_k1_***, fed_user_ada_***",
        ),
        ("Authorization: Bearer abc.def-ghi_jkl", "Authorization: Bearer ***"),
        ("authorization: Basic dXNlcjpwYXNzd29yZA==", "authorization: Basic ***"),
        ("Authorization: Zm9vYmFy", "Authorization: ***"),
        ("X-Api-Key: Zm9vYmFy", "X-Api-Key: ***"),
        ("{'x-api-key': 'Zm9vYmFy', 'n': 1}", "{'x-api-key': '***', 'n': 1}"),
        ("Cookie: session=Zm9vYmFy; theme=dark", "Cookie: *** theme=dark"),
        (f"id token {JWT} expired", "id token eyJ*** expired"),
        (f"before {PEM} after", "before -----BEGIN EC PRIVATE KEY-----*** after"),
        (PEM[:70], "-----BEGIN EC PRIVATE KEY-----***"),
        (
            "GET /cb?state=1&code=Zm9v&token=x#top HTTP/1.1",
            "GET /cb?state=1&code=***&token=***#top HTTP/1.1",
        ),
        ("POST /x?access_token=a%20b", "POST /x?access_token=***"),
        ('{"joinToken": "Zm9vYmFy", "name": "c"}', '{"joinToken": "***", "name": "c"}'),
        ("Settings(password='Zm9vYmFyMQ')", "Settings(password='***')"),
        ("http://ada:Zm9v@proxy:3128/", "http://***@proxy:3128/"),
        ("client_secret=Zm9vYmFyMQ&x=1", "client_secret=***&x=1"),
    ],
)
def test_what_looks_like_a_secret_is_cut_out(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "nothing secret",
        "the basic idea: a bearer of news",
        "token-file=/run/token token_file=/run/secrets/token",
        "tokens=12345678 tokens_per_minute=100000000",
        "spiffe://federation.internal/cluster/eu-west https://127.0.0.1:7480/api/v1/trust",
        "digest=0123456789abcdef sha256:0123456789abcdef",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "the token is malformed: give it whole",
    ],
)
def test_what_people_need_to_read_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "secret", [PEM, PEM[:70], JWT, '"token": "Zm9vYmFy"', "x?key=Zm9vYmFy", "cookie: Zm9vYmFy"]
)
@pytest.mark.parametrize("wrap", [str, repr, json.dumps, lambda text: json.dumps({"in": [text]})])
def test_a_line_with_a_secret_is_still_json(secret: str, wrap: Callable[[str], str]) -> None:
    stream = io.StringIO()
    set_up_logging("router", stream=stream)
    logging.getLogger("x").info("got %s", wrap(secret), extra={"body": wrap(secret), "n": 7})
    line = json.loads(stream.getvalue())
    assert line["n"] == 7
    for part in ("MHcCAQEE", "eyJzdWIi", "c2lnbmF0dXJl", "Zm9vYmFy"):
        assert part not in stream.getvalue()


@given(st.text(alphabet="fed_join-bearer:/?&=.\"'\\ eyJAB01\n-", max_size=300))
def test_redaction_ends_soon_and_is_done_after_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@pytest.mark.parametrize(
    "unit",
    ["a", "eyJ-", "://", "a:", "a://b:", "token", "basic ", "?a-", "-----BEGIN PRIVATE KEY-----"],
)
def test_hostile_lines_take_no_long_time(unit: str) -> None:
    started = time.thread_time()
    redact(unit * (100_000 // len(unit)))
    assert time.thread_time() - started < 2
