import logging

import pytest
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from federation.relay.noise import Malformed, server_log
from tests.fakes.http_peers import serving, talk


def record(at_s: float, error: Exception | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, None) if error else None
    made = logging.LogRecord("x", logging.ERROR, "", 0, "said %s", ("it",), exc_info)
    made.created = at_s
    return made


def test_a_flood_becomes_a_count_now_and_then() -> None:
    malformed, bad = Malformed(), BadHttpMessage("Authorization: Bearer secret")
    passed = [r for r in (record(t / 10, bad) for t in range(205)) if malformed.filter(r)]
    assert [r.getMessage() for r in passed] == [
        "1 malformed requests were refused",
        "100 malformed requests were refused",
        "100 malformed requests were refused",
    ]
    assert {(r.levelno, r.exc_info) for r in passed} == {(logging.WARNING, None)}
    assert malformed.total == 205


def test_other_words_pass_as_they_are() -> None:
    other = record(0.0, KeyError("x"))
    assert Malformed().filter(other)
    assert (other.getMessage(), other.levelno) == ("said it", logging.ERROR)
    assert Malformed().filter(record(0.0))
    assert server_log() is not server_log()


async def test_a_credential_in_a_malformed_head_stays_out_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(web.Application()) as url:
        for _ in range(20):
            head = b"GET / HTTP/1.1\r\nAuthorization : Bearer s3cret\r\n\r\n"
            assert (await talk(url, head)).startswith(b"HTTP/1.0 400")
    assert [r.message for r in caplog.records] == ["1 malformed requests were refused"]
    assert "s3cret" not in caplog.text
