"""A static engine is looked at, whatever dialect it lists its models in."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from edge_agent.backends.base import BackendError, EngineUnreachable, Verb
from edge_agent.backends.static import StaticBackend
from federation.contract.types import EngineKind, ModelProtocol
from tests.contract.backends import stage


class Server:
    """Answers what it is told to; 404 elsewhere."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.token = ""
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        answer = self.answers.get(f"{request.method} {request.path}")
        if answer is None:
            return web.Response(status=404, text="nothing here")
        return web.Response(text=answer) if isinstance(answer, str) else web.json_response(answer)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server, app = Server(), web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def backend(server: Server) -> AsyncIterator[StaticBackend]:
    backend = StaticBackend(server.url)
    yield backend
    await backend.close()


OPENAI = {"object": "list", "data": [{"id": "org/llama"}, {"id": "b"}, {"no": "id"}, 3]}
TRITON = [{"name": "t", "state": "READY"}, {"name": "u", "state": "UNAVAILABLE"}]


@pytest.mark.parametrize(
    ("path", "answer", "names", "protocol"),
    [
        ("GET /v1/models", OPENAI, ["b", "org/llama"], ModelProtocol.TEXT),
        ("POST /v2/repository/index", TRITON, ["t"], ModelProtocol.TENSOR),
        ("GET /v2/models", {"models": ["y", {"name": "x"}]}, ["x", "y"], ModelProtocol.TENSOR),
        ("GET /v1/models", {"data": []}, [], ModelProtocol.TEXT),
    ],
)
async def test_each_dialect_is_understood(
    server: Server,
    backend: StaticBackend,
    path: str,
    answer: Any,
    names: list[str],
    protocol: ModelProtocol,
) -> None:
    server.answers[path] = answer
    loaded = await backend.loaded()
    assert [v.model for v in loaded] == names
    assert {(v.version, v.digest, v.protocol) for v in loaded} <= {(1, "", protocol)}
    status = await backend.status()
    assert (status.ready, status.kind) == (True, EngineKind.STATIC)


@pytest.mark.parametrize("answer", ["no json", {"data": "x"}, [[]], None])
async def test_nonsense_is_no_list(server: Server, backend: StaticBackend, answer: Any) -> None:
    server.answers["GET /v1/models"] = answer
    with pytest.raises(EngineUnreachable, match="lists no models"):
        await backend.loaded()
    status = await backend.status()
    assert (status.ready, bool(status.reason)) == (False, True)


async def test_a_token_is_shown_where_one_is_wanted(server: Server, backend: StaticBackend) -> None:
    server.token, server.answers["GET /v1/models"] = "secret", OPENAI
    with pytest.raises(EngineUnreachable, match="wants a token"):
        await backend.loaded()
    knowing = StaticBackend(server.url, token="secret")
    assert len(await knowing.loaded()) == 2
    route = knowing.route("b", 1, Verb.CHAT, ModelProtocol.TEXT)
    assert route is not None
    assert route.headers == {"authorization": "Bearer secret"}
    await knowing.close()


async def test_nobody_there(unused_tcp_port: int) -> None:
    backend = StaticBackend(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(EngineUnreachable):
        await backend.loaded()
    assert await backend.identity() == ""
    await backend.close()


async def test_nothing_is_ever_changed(backend: StaticBackend, tmp_path: Path) -> None:
    staged = stage(tmp_path, "m", 1, {})
    for call in (backend.load(staged), backend.warm_up(staged), backend.unload("m", 1)):
        with pytest.raises(BackendError, match="read-only"):
            await call


def test_routes_are_the_engines_own(tmp_path: Path) -> None:
    backend = StaticBackend("http://h:1/")
    tensor = {v: backend.route("m", 1, v, ModelProtocol.TENSOR) for v in Verb}
    text = {v: backend.route("m", 1, v, ModelProtocol.TEXT) for v in Verb}
    assert {v: r.url for v, r in tensor.items() if r} == {
        Verb.METADATA: "http://h:1/v2/models/m",
        Verb.READY: "http://h:1/v2/models/m/ready",
        Verb.INFER: "http://h:1/v2/models/m/infer",
        Verb.GENERATE: "http://h:1/v2/models/m/generate",
        Verb.GENERATE_STREAM: "http://h:1/v2/models/m/generate_stream",
    }
    assert {v: r.url for v, r in text.items() if r} == {
        Verb.COMPLETIONS: "http://h:1/v1/completions",
        Verb.CHAT: "http://h:1/v1/chat/completions",
        Verb.EMBEDDINGS: "http://h:1/v1/embeddings",
        Verb.RESPONSES: "http://h:1/v1/responses",
        Verb.RERANK: "http://h:1/v1/rerank",
        Verb.SCORE: "http://h:1/v1/score",
    }
