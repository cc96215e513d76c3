import asyncio
import contextlib
import logging

import pytest

from federation.contract.errors import Invalid, NotFound, Unauthenticated
from federation.relay.application import make_application
from federation.relay.http1.messages import Request, Response, StreamResponse
from tests.fakes.hostile_heads import HOSTILE_HEADS, hostile_request
from tests.fakes.http_peers import serving, talk

GET = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def hello(request: Request) -> StreamResponse:
    return Response(text=f"hello {request.raw_path}")


async def test_every_path_goes_to_the_handler_and_the_server_keeps_its_name() -> None:
    async with serving(make_application(hello)) as url:
        answer = await talk(url, GET % b"/any/thing?at=all")
    assert answer.endswith(b"hello /any/thing?at=all")
    assert b"server:" not in answer.lower()


@pytest.mark.parametrize("number", range(len(HOSTILE_HEADS)))
async def test_a_hostile_head_never_reaches_the_handler(number: int) -> None:
    seen: list[str] = []

    async def note(request: Request) -> StreamResponse:
        await request.read()
        seen.append(request.raw_path)
        return Response()

    async with serving(make_application(note)) as url:
        answer = await talk(url, hostile_request(number, "/v1/completions"), seconds=0.5)
        assert not answer.startswith(b"HTTP/1.1 2")
        assert seen == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [(b"/v2/x", b'{"error": "No such thing. Look elsewhere."}'), (b"/v1/x", b'"type": "inv')],
)
async def test_errors_are_answered_in_the_dialect_of_the_path(path: bytes, expected: bytes) -> None:
    async def missing(request: Request) -> StreamResponse:
        raise NotFound("No such thing.", hint="Look elsewhere.")

    async with serving(make_application(missing)) as url:
        answer = await talk(url, GET % path)
    assert answer.startswith(b"HTTP/1.1 404")
    assert expected in answer


async def test_a_fault_of_ours_is_logged_and_answered_without_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fault(request: Request) -> StreamResponse:
        raise KeyError("the secret")

    async with serving(make_application(fault)) as url:
        answer = await talk(url, GET % b"/v2/x")
    assert answer.startswith(b"HTTP/1.1 500")
    assert b"secret" not in answer
    assert "the secret" in caplog.text


@pytest.mark.parametrize("error", [KeyError("x"), Invalid("x"), ConnectionResetError()])
async def test_an_answer_that_has_begun_is_broken_off_and_not_followed_by_another(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    async def late(request: Request) -> StreamResponse:
        response = StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        raise error

    async with serving(make_application(late)) as url:
        answer = await talk(url, GET.replace(b"Connection: close\r\n", b"") % b"/v2/x")
    assert b"half" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert not answer.endswith(b"0\r\n\r\n")


async def test_a_body_is_invited_only_once_the_head_is_admitted() -> None:
    def admit(request: Request) -> None:
        if "Authorization" not in request.headers:
            raise Unauthenticated("Who are you?")

    async def length(request: Request) -> StreamResponse:
        return Response(text=str(len(await request.read())))

    head = b"POST /v1/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n%s\r\n"
    async with serving(make_application(length, admit=admit)) as url:
        refused = await talk(url, head % b"Content-Length: 5\r\n")
        assert refused.startswith(b"HTTP/1.1 401")
        assert b"100 Continue" not in refused
        admitted = head % b"Content-Length: 5\r\nAuthorization: x\r\n" + b"12345"
        answer = await talk(url, admitted)
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
        assert answer.endswith(b"5")


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v2/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET /v2/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1",
        b"GET /v2/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v2/../x HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_after_a_refused_head_nothing_more_is_read(head: bytes) -> None:
    async with serving(make_application(hello)) as url:
        answer = await talk(url, head + GET % b"/v2/hidden")
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404")), answer
    assert b"hidden" not in answer
    assert b"Connection: close" in answer


async def test_a_length_of_nothing_is_no_body() -> None:
    async with serving(make_application(hello)) as url:
        sound = (GET % b"/v2/x").replace(b"Host", b"Content-Length: 0\r\nHost")
        assert (await talk(url, sound)).startswith(b"HTTP/1.1 200")


async def test_a_client_that_does_not_take_a_whole_answer_is_cut_off() -> None:
    gone = asyncio.Event()

    async def large(request: Request) -> StreamResponse:
        request.connection.on_lost.append(gone.set)
        return Response(body=b"x" * (64 << 20))

    async with serving(make_application(large, stall_s=0.3)) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(GET % b"/v2/x")
        async with asyncio.timeout(5):
            await gone.wait()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
