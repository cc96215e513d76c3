import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.relay.http1.heads import (
    UNTIL_CLOSE,
    BadMessage,
    check_beginning,
    parse_request,
    parse_response,
    write_head,
)
from tests.fakes.hostile_heads import HOSTILE_HEADS, hostile_request
from tests.fuzz.readers import disagreement, llhttp, ours, with_h11
from tests.hostile.corpus import CORPUS

POST = b"POST /v2/x HTTP/1.1\r\nHost: h\r\n%s\r\n"


def test_a_head_is_taken_apart() -> None:
    head = parse_request(POST % b"Content-Length: 12\r\nX-A:  b c \r\nx-a: d\r\n")
    assert (head.method, head.target, head.minor, head.length) == ("POST", "/v2/x", 1, 12)
    assert head.headers.getall("X-a") == ["b c", "d"]
    assert (head.chunked, head.expects, head.persistent) == (False, False, True)
    assert repr(head) == "RequestHead(POST /v2/x)"
    assert parse_request(POST % b"Transfer-Encoding: CHUNKED\r\n").chunked
    assert parse_request(POST % b"Expect: 100-Continue\r\n").expects
    assert parse_request(POST % b"X: caf\xe9\r\n").headers["x"] == "caf\udce9"


@pytest.mark.parametrize(
    ("fields", "persistent"),
    [
        (b"Connection: close\r\n", False),
        (b"Connection: x, CLOSE\r\n", False),
        (b"Connection: x\r\nConnection: close\r\n", False),
        (b"Connection: keep-alive\r\n", True),
        (b"Upgrade: h2c\r\n", False),
    ],
)
def test_who_wants_to_keep_the_connection(fields: bytes, persistent: bool) -> None:
    assert parse_request(POST % fields).persistent is persistent
    old = (POST % fields).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert parse_request(old).persistent is (b"keep-alive" in fields)


@pytest.mark.parametrize("number", range(len(HOSTILE_HEADS)))
def test_what_two_readers_could_understand_in_two_ways_is_refused(number: int) -> None:
    raw = hostile_request(number, "/v2/x")
    head = raw[: raw.find(b"\r\n\r\n") + 4] if b"\r\n\r\n" in raw else raw
    try:
        parsed = parse_request(head)
    except BadMessage:
        return
    # The rest is refused by the target, or by the chunks that follow.
    assert parsed.chunked or not parsed.target.startswith("/v2/x") or "%00" in parsed.target


@pytest.mark.parametrize(
    ("raw", "length", "chunked", "persistent"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 3, False, True),
        (b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", UNTIL_CLOSE, True, True),
        (b"HTTP/1.0 200 OK\r\n\r\n", UNTIL_CLOSE, False, False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 0, False, True),
        (b"HTTP/1.1 304 x\r\nContent-Length: 9\r\nConnection: close\r\n\r\n", 0, False, False),
        (b"HTTP/1.1 102 Processing\r\n\r\n", 0, False, True),
    ],
)
def test_answers_end_where_they_say(
    raw: bytes, length: int, chunked: bool, persistent: bool
) -> None:
    head = parse_response(raw)
    assert (head.length, head.chunked, head.persistent) == (length, chunked, persistent)
    assert parse_response(raw, to_head=True).length == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    ],
)
def test_answers_that_cannot_be_trusted_are_refused(raw: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_response(raw)


@pytest.mark.parametrize("beginning", [b"GET /\n", b"GET \0", b"A: \rb", b"x" * 70_000, b"\x7f"])
def test_a_beginning_that_no_end_could_make_good_is_refused_at_once(beginning: bytes) -> None:
    with pytest.raises(BadMessage):
        check_beginning(beginning)


def test_every_beginning_of_a_sound_head_is_waited_for() -> None:
    raw = POST % b"A: b\r\n"
    for end in range(len(raw) - 1):
        check_beginning(raw[:end])


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_is_written_is_one_line_each_or_nothing(name: str, value: str) -> None:
    try:
        raw = write_head("HTTP/1.1 200 OK", [(name, value)])
    except (BadMessage, UnicodeEncodeError):
        return
    assert raw.count(b"\r\n") == 3
    assert raw.count(b"\n") == 3


def test_no_reader_is_lost_on_the_corpus() -> None:
    for payload in CORPUS:
        mine = ours(payload.raw)
        assert disagreement(mine, llhttp(payload.raw)) == "", payload.name
        assert disagreement(mine, with_h11(payload.raw)) == "", payload.name


_PIECES = st.sampled_from(
    [
        b"POST /a HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"HEAD /b HTTP/1.0\r\n", b"Host: h\r\n",
        b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
        b"\r\n", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"2;a=b\r\nab\r\n",
        b"Connection: close\r\n", b"\n", b"X: y\r\n", b" folded\r\n", b"\r", b"5\r\nab\r\n\r\n",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(_PIECES, max_size=14).map(b"".join))
def test_no_reader_is_lost_on_what_is_put_together_at_random(raw: bytes) -> None:
    mine = ours(raw)
    assert disagreement(mine, llhttp(raw)) == ""
    assert disagreement(mine, with_h11(raw)) == ""
