"""Heads: what is understood, what is refused, and that nothing else than Invalid comes of any."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.sync.http_head import check_partial, parse_head, request_head
from federation.contract.errors import Invalid

GOOD = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 10\r\ncontent-range: bytes 5-14/20"


def test_a_good_head_is_understood() -> None:
    head = parse_head(GOOD)
    assert (head.status, head.length, head.keep_alive) == (206, 10, True)
    check_partial(head, 5, 10)


@pytest.mark.parametrize(("first", "count"), [(4, 10), (5, 9), (5, 11), (6, 10), (0, 20)])
def test_another_range_is_refused(first: int, count: int) -> None:
    with pytest.raises(Invalid):
        check_partial(parse_head(GOOD), first, count)


def test_a_server_may_leave_open_how_long_the_object_is() -> None:
    check_partial(parse_head(GOOD.replace(b"/20", b"/*")), 5, 10)
    with pytest.raises(Invalid, match="beyond its own end"):
        check_partial(parse_head(GOOD.replace(b"/20", b"/14")), 5, 10)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 10\r\nContent-Length: 10",
        b"Content-Length: +10",
        b"Content-Length: 1_0",
        b"Content-Length: " + b"9" * 30,
        b"Content-Length : 10",
        b" folded: 1",
        b"Transfer-Encoding: identity",
        b"Content-Encoding: br",
        b"X: a\nb",
        b"X: a\x00b",
        b"no colon",
        b"",
    ],
)
def test_malformed_headers_are_refused(lines: bytes) -> None:
    with pytest.raises(Invalid):
        parse_head(b"HTTP/1.1 206 Told\r\n" + lines)


@pytest.mark.parametrize(
    "line", [b"HTTP/2 206", b"HTTP/1.1 2066", b"HTTP/1.1 100", b"HTTP/1.1  206", b"ICY 200", b""]
)
def test_other_protocols_are_refused(line: bytes) -> None:
    with pytest.raises(Invalid):
        parse_head(line)


@given(st.binary(max_size=300))
@example(b"HTTP/1.1 206\r\n: \r\n")
def test_whatever_comes_there_is_a_verdict(data: bytes) -> None:
    for text in (data, GOOD + data, GOOD + b"\r\n" + data):
        with contextlib.suppress(Invalid):
            check_partial(parse_head(text), 5, 10)


def test_connections_are_kept_only_if_both_agree() -> None:
    assert not parse_head(b"HTTP/1.0 206 Told").keep_alive
    assert not parse_head(b"HTTP/1.1 206 Told\r\nConnection: Close").keep_alive


@pytest.mark.parametrize(("value", "seconds"), [("3", 3.0), ("", 0.0), ("Fri", 0.0), ("-1", 0.0)])
def test_retry_after_is_read_in_seconds(value: str, seconds: float) -> None:
    head = parse_head(f"HTTP/1.1 503 Busy\r\nRetry-After: {value}".encode())
    assert head.retry_after_s == seconds


def test_a_request_asks_for_one_range_and_no_encoding() -> None:
    lines = request_head("h:1", "/a?b=%2F", (5, 10)).decode().split("\r\n")
    assert lines[0] == "GET /a?b=%2F HTTP/1.1"
    assert {"Host: h:1", "Range: bytes=5-14", "Accept-Encoding: identity"} <= set(lines)
    assert lines[-2:] == ["", ""]
    assert b"Range" not in request_head("h", "/", None)
