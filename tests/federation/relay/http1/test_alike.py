import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.relay.http1.alike import CONTENT_LENGTH, Alike
from federation.relay.http1.heads import BadMessage, parse_request

VARY = (CONTENT_LENGTH, b"x-request-id", b"traceparent")
RAW = (
    b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nX-Request-Id: one\r\nAccept: */*\r\n"
    b"Content-Length: 5\r\n\r\n"
)


def test_only_what_may_vary_may_vary() -> None:
    alike = Alike(RAW, VARY)
    assert alike.fits(RAW)
    assert alike.values == [b"5", b"one", None]
    assert alike.fits(RAW.replace(b"one", b"other").replace(b": 5", b": 123"))
    assert alike.values == [b"123", b"other", None]
    assert alike.fits(RAW)
    assert alike.values == [b"5", b"one", None]
    assert not alike.fits(RAW.replace(b"*/*", b"text/plain"))
    assert not alike.fits(RAW.replace(b"models/m", b"models/n"))
    assert not alike.fits(RAW.replace(b"X-Request-Id", b"x-request-id"))


@pytest.mark.parametrize(
    "line",
    [
        *(b"Content-Length: ", b"Content-Length: -5", b"Content-Length: 5, 5"),
        *(b"Content-Length: 0x5", b"Content-Length: 5\nEvil: 1", b"Content-Length: 5\rx"),
        *(b"Content-Length : 5", b" Content-Length: 5", b"Content-Length: " + b"1" * 16),
    ],
)
def test_a_length_is_one_plain_number(line: bytes) -> None:
    assert not Alike(RAW, VARY).fits(RAW.replace(b"Content-Length: 5", line))


@pytest.mark.parametrize("value", [b"a\nb", b"a\rb", b"a\x00b", b"a\r\nEvil: 1", b"x" * 1025])
def test_a_value_holds_no_line_end(value: bytes) -> None:
    assert not Alike(RAW, VARY).fits(RAW.replace(b"one", value))


def test_what_stands_there_twice_does_not_vary() -> None:
    twice = RAW.replace(b"Accept: */*", b"X-Request-Id: two")
    alike = Alike(twice, VARY)
    assert not alike.plain
    assert alike.fits(twice)
    assert not alike.fits(twice.replace(b"two", b"three"))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_fits_is_read_strictly_to_the_same(data: st.DataObject) -> None:
    """Bytes anywhere in the head are replaced: what fits would have been understood, and means the
    same but for what may vary."""
    at = data.draw(st.integers(0, len(RAW) - 5))
    end = data.draw(st.integers(at, min(at + 6, len(RAW) - 4)))
    other = data.draw(
        st.binary(max_size=6) | st.sampled_from([b"\r\n", b"\n", b": ", b"7", b" 7", b"\r\nA: b"])
    )
    raw = RAW[:at] + other + RAW[end:]
    alike = Alike(RAW, VARY)
    if raw.find(b"\r\n\r\n") != len(raw) - 4 or not alike.fits(raw):
        return
    try:
        head = parse_request(raw)
    except BadMessage:
        pytest.fail(f"{raw!r} fits, and is refused")
    assert (head.method, head.target) == ("POST", "/v2/models/m/infer")
    assert head.length == int(alike.values[0] or 0)
    assert head.headers["x-request-id"].encode("utf-8", "surrogateescape") == alike.values[1]
    assert (head.headers.getall("host"), head.headers.getall("accept")) == (["x"], ["*/*"])
