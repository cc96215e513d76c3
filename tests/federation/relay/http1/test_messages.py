import pytest
from multidict import CIMultiDict

from federation.relay.http1.messages import Response, StreamResponse
from tests.fakes.requests import request_of, request_with


def test_a_request_is_told_by_its_head() -> None:
    request = request_of("GET", "/a/b?x=1&y=&x=2", {"Accept": "*/*", "Cookie": "a"})
    assert (request.path, request.query) == ("/a/b", {"x": "2", "y": ""})
    assert repr(request) == "Request(GET /a/b?x=1&y=&x=2)"


async def test_a_small_body_can_be_read_whole() -> None:
    request = request_with("POST", "/", b"abc", {"Content-Length": "3"})
    assert await request.read() == b"abc"
    assert await request_of("GET", "/").read() == b""


def test_answers_know_their_headers() -> None:
    answer = Response(text="hi", headers={"A": "b"})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert (answer.body, answer.content_length) == (b"hi", 2)
    assert Response(status=204).content_length is None
    assert Response(content_type="x/y").headers["Content-Type"] == "x/y"
    own: CIMultiDict[str] = CIMultiDict({"A": "b"})
    assert StreamResponse(headers=own).headers is own
    assert repr(StreamResponse(status=206)) == "StreamResponse(206, prepared=False)"


async def test_nothing_is_written_before_the_head() -> None:
    with pytest.raises(RuntimeError):
        await StreamResponse().write(b"x")
