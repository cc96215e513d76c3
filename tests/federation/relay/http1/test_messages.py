import pytest
from multidict import CIMultiDict

from federation.relay.application import make_application
from federation.relay.http1.messages import Request, Response, StreamResponse
from tests.fakes.http_peers import serving, talk
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


async def echo(request: Request) -> StreamResponse:
    answer = StreamResponse()
    size = int(request.raw_path[1:])
    if request.headers.get("Sized"):
        answer.content_length = size + 1
    answer.begin_with(request, b"x" * size)
    await answer.write(b"y")
    return answer


@pytest.mark.parametrize("size", [0, 3, 20_000])
@pytest.mark.parametrize("sized", ["", "Sized: 1\r\n"])
async def test_an_answer_may_begin_with_a_first_piece(size: int, sized: str) -> None:
    raw = f"GET /{size} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{sized}\r\n".encode()
    async with serving(make_application(echo)) as url:
        head, _, body = (await talk(url, raw)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    if sized:
        assert body == b"x" * size + b"y"
    else:
        assert (
            body
            == (b"%x\r\n%b\r\n" % (size, b"x" * size) if size else b"") + b"1\r\ny\r\n0\r\n\r\n"
        )
