import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from edge_agent.backends.base import BackendError, EngineUnreachable
from edge_agent.backends.engine_http import Answer, Binary, EngineHttp, one_line


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """An engine that tells what it was sent."""

    async def tell(request: web.Request) -> web.Response:
        headers = {name: request.headers.get(name, "") for name in ("X-Own", "Content-Type")}
        body = (await request.read()).decode()
        return web.json_response(
            {"path": request.path, "headers": headers, "body": body}, status=418
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", tell)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def test_json_and_binary_bodies(url: str) -> None:
    http = EngineHttp(url, headers={"x-own": "1"})
    answer = await http.ask("POST", "/a", body={"b": 1})
    assert answer.status == 418
    told = answer.json()
    assert (told["path"], told["body"], told["headers"]["X-Own"]) == ("/a", '{"b": 1}', "1")
    told = (await http.ask("POST", "/a", body=Binary(b"xy", {"content-type": "a/b"}))).json()
    assert (told["body"], told["headers"]["Content-Type"]) == ("xy", "a/b")
    await http.close()


async def test_a_closed_port_and_a_silent_server_are_unreachable() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        http = EngineHttp(f"http://127.0.0.1:{port}", timeout_s=0.1)
        with pytest.raises(EngineUnreachable, match=r"did not answer within 0\.1 s"):
            await http.ask("GET", "/")
        await http.close()
    http = EngineHttp(f"http://127.0.0.1:{port}")
    with pytest.raises(EngineUnreachable, match=f":{port} does not answer"):
        await http.ask("GET", "/")
    assert repr(http) == f"EngineHttp(http://127.0.0.1:{port})"
    await http.close()


def test_an_answer_that_is_no_json_is_an_error_with_its_text() -> None:
    with pytest.raises(BackendError, match="no JSON: <html> oops"):
        Answer(200, b"<html>\n oops").json()
    assert Answer(200, b"").json() is None


def test_long_text_is_cut_to_one_line() -> None:
    assert one_line(" a\n  b\t") == "a b"
    assert one_line("x" * 50, limit=10) == "xxxxxxx..."
