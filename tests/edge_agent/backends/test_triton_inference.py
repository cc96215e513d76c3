"""Where verbs live at a Triton, and a warm-up of inputs that only Triton knows."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from edge_agent.backends.base import BackendError, Dialect, Verb
from edge_agent.backends.engine_http import EngineHttp
from edge_agent.backends.triton_inference import route, warm_up
from federation.contract.types import ModelProtocol
from tests.contract.backends import stage

BASE = "http://triton:8000"
PATH = f"{BASE}/v2/models/m--v1/versions/1"


@pytest.mark.parametrize(
    ("verb", "url"),
    [(Verb.METADATA, PATH), (Verb.READY, f"{PATH}/ready"), (Verb.INFER, f"{PATH}/infer")],
)
def test_verbs_of_tensor_models(verb: Verb, url: str) -> None:
    found = route(BASE, ("m", 1), verb, ModelProtocol.TENSOR)
    assert found is not None
    assert (found.url, found.dialect, found.engine_model) == (url, Dialect.NATIVE, "m--v1")


def test_text_is_always_generated_as_a_stream() -> None:
    for verb in (Verb.INFER, Verb.GENERATE, Verb.CHAT):
        found = route(BASE, ("m", 1), verb, ModelProtocol.TEXT)
        assert found is not None
        assert (found.url, found.dialect) == (f"{PATH}/generate_stream", Dialect.TRITON_TEXT)
    assert route(BASE, ("m", 1), Verb.CHAT, ModelProtocol.TENSOR) is None
    assert route(BASE, ("m", 1), Verb.EMBEDDINGS, ModelProtocol.TENSOR) is None
    assert route(BASE, ("m", 1), Verb.EMBEDDINGS, ModelProtocol.TEXT) is None


@pytest.fixture
async def triton() -> AsyncIterator[tuple[EngineHttp, list[int]]]:
    """Knows inputs of the model `m`, of no other."""
    asked: list[int] = []

    async def about(request: web.Request) -> web.Response:
        inputs = [{"name": "X", "datatype": "FP32", "shape": [-1]}]
        return web.json_response({"inputs": inputs})

    async def infer(request: web.Request) -> web.Response:
        asked.append(len(await request.read()))
        return web.json_response({"outputs": []})

    app = web.Application()
    app.router.add_get("/v2/models/m--v1/versions/1", about)
    app.router.add_post("/v2/models/m--v1/versions/1/infer", infer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    http = EngineHttp(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield http, asked
    await http.close()
    await runner.cleanup()


async def test_undeclared_inputs_are_asked_of_triton(
    triton: tuple[EngineHttp, list[int]], tmp_path: Path
) -> None:
    http, asked = triton
    version = stage(tmp_path, "m", 1, {})
    bare = replace(version, package=replace(version.package, inputs=(), outputs=()))
    await warm_up(http, bare)
    assert len(asked) == 1
    with pytest.raises(BackendError, match="tells no inputs"):
        await warm_up(http, replace(bare, version=2))
