"""The gateway before a real Triton: its real answers, its real errors, its real streams."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton_http

from edge_agent.backends.base import StagedVersion
from edge_agent.backends.triton import TritonBackend
from federation.demo.triton_install import TritonInstallation
from tests.edge_agent.gateway.bench import TEXT, WARM, Bench, bench
from tests.engines.packages import add_package, count_package, notes_of
from tests.engines.triton import TritonServer

pytestmark = pytest.mark.triton

ADD, COUNT = "/v2/models/add/versions/2", "/v2/models/count/versions/1"
NAMED = {"x_fed_model": "count", "x_fed_version": "1"}
ONE: dict[str, Any] = {
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},
        {"name": "words", "datatype": "BYTES", "shape": [1, 1], "data": ["hi"]},
    ]
}


@pytest.fixture(scope="module")
def server(
    triton_installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    return TritonServer(triton_installation, tmp_path_factory.mktemp("gateway-triton"))


@pytest.fixture
async def gate(server: TritonServer, tmp_path: Path) -> AsyncIterator[Bench]:
    server.start()
    backend = TritonBackend(server.url, server.repository)
    for staged in (add_package(tmp_path, version=2), count_package(tmp_path, pause_s=0.02)):
        await load(backend, staged)
    async with bench(backend, {("add", 2): WARM, ("count", 1): TEXT}) as running:
        yield running
    await backend.close()
    server.kill()


async def load(backend: TritonBackend, staged: StagedVersion) -> None:
    await backend.load(staged)


async def test_tensors_text_and_errors(gate: Bench, server: TritonServer, tmp_path: Path) -> None:
    await tensors_pass_as_json_and_binary(gate)
    await metadata_and_ready_bear_our_names(gate)
    await a_models_own_error_is_its_own(gate)
    await what_cannot_be_read_is_the_clients_mistake(gate)
    await text_answers_in_every_dialect(gate)
    await a_failure_in_a_stream_is_told(gate)
    await closing_the_client_stops_the_model(gate, notes_of(tmp_path))
    assert gate.doubts == []
    await an_unloaded_model_is_refused_elsewhere(gate, server)
    await a_dead_stub_is_doubted(gate, server)
    server.kill()
    status, headers, _ = await gate.post(f"{ADD}/infer", ONE)
    assert (status, headers["x-fed-refused"]) == (503, "engine-down")


async def tensors_pass_as_json_and_binary(gate: Bench) -> None:
    status, headers, body = await gate.post(f"{ADD}/infer", {"id": "7", **ONE})
    answer = json.loads(body)
    assert (status, headers["x-fed-load"]) == (200, "1")
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "add", "2")
    assert {o["name"]: o["data"] for o in answer["outputs"]} == {"y": [3, 4], "upper": ["HI"]}

    def binary() -> tuple[list[list[float]], str]:
        address = gate.url.removeprefix("http://")
        with triton_http.InferenceServerClient(address) as client:
            x = triton_http.InferInput("x", [2, 2], "FP32")
            x.set_data_from_numpy(np.ones((2, 2), np.float32))
            words = triton_http.InferInput("words", [2, 1], "BYTES")
            words.set_data_from_numpy(np.full((2, 1), b"hi" * 500_000, object))
            result = client.infer("add", [x, words], model_version="2")
            assert result.as_numpy("upper")[1][0] == b"HI" * 500_000
            name: str = result.get_response()["model_name"]
            return result.as_numpy("y")[-1:].tolist(), name

    assert await asyncio.to_thread(binary) == ([[3.0, 3.0]], "add")


async def metadata_and_ready_bear_our_names(gate: Bench) -> None:
    _, _, body = await gate.get(ADD)
    metadata = json.loads(body)
    assert (metadata["name"], metadata["versions"]) == ("add", ["2"])
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["x", "words"]
    assert (await gate.get(f"{ADD}/ready"))[0] == 200


async def a_models_own_error_is_its_own(gate: Bench) -> None:
    refused = {"inputs": [{**ONE["inputs"][0], "data": [666, 1]}, ONE["inputs"][1]]}
    for body, words in ((refused, "this number is refused"), ({"inputs": []}, "expected 2 inputs")):
        status, headers, answer = await gate.post(f"{ADD}/infer", dict(body))
        assert status in (400, 500)
        assert words in json.loads(answer)["error"]
        assert b"add--v2" not in answer
        assert not {"x-fed-refused", "x-fed-outcome"} & {name.lower() for name in headers}


async def what_cannot_be_read_is_the_clients_mistake(gate: Bench) -> None:
    short = {"inputs": [{**ONE["inputs"][0], "shape": [1, 9]}, ONE["inputs"][1]]}
    for body in (json.dumps(short).encode(), b"[1]", b'{"inputs": [{"name"', b'{"inputs": {}}'):
        status, headers, answer = await gate.post(f"{ADD}/infer", body)
        assert (status, "x-fed-refused" in headers) == (400, False), answer
        assert json.loads(answer)["error"]


async def text_answers_in_every_dialect(gate: Bench) -> None:
    asked: dict[str, object] = {"text_input": "a b", "max_tokens": 3}
    _, _, body = await gate.post(f"{COUNT}/generate", asked)
    assert json.loads(body)["text_output"] == "0 1 2 "
    _, _, body = await gate.post(f"{COUNT}/generate_stream", {**asked, "stop": ["1"]})
    assert b'"1 "' not in body
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["a b"]}
    infer: dict[str, object] = {"inputs": [tensor], "parameters": {"max_tokens": 2}}
    _, _, body = await gate.post(f"{COUNT}/infer", infer)
    assert json.loads(body)["outputs"][0]["data"] == ["0 1 "]
    prompt: dict[str, object] = {"model": "count@x", "prompt": "a b", "max_tokens": 2, "seed": 1}
    _, _, body = await gate.post("/v1/completions", prompt, **NAMED)
    completion = json.loads(body)
    assert completion["choices"][0]["text"] == "0 1 "
    assert completion["usage"]["prompt_tokens"] == 2
    chat: dict[str, object] = {
        "messages": [{"role": "user", "content": "a"}],
        "stream": True,
        "max_tokens": 2,
    }
    _, _, body = await gate.post("/v1/chat/completions", chat, **NAMED)
    assert body.endswith(b"data: [DONE]\n\n")
    assert b'"1 "' in body


async def a_failure_in_a_stream_is_told(gate: Bench) -> None:
    asked: dict[str, object] = {"prompt": "fail", "stream": True}
    status, _, body = await gate.post("/v1/completions", asked, **NAMED)
    assert status >= 400
    assert "told to fail" in json.loads(body)["error"]["message"]
    status, _, body = await gate.post("/v1/completions", {**asked, "prompt": "fail later"}, **NAMED)
    assert status == 200
    assert b"told to fail" in body.split(b"\n\n")[-2]


async def closing_the_client_stops_the_model(gate: Bench, notes: Path) -> None:
    path = f"{gate.url}{COUNT}/generate_stream"
    async with gate.client.post(path, json={"text_input": "x", "max_tokens": 500}) as response:
        await response.content.readany()
        response.close()
    assert await gate.idle(5)
    await asyncio.sleep(0.1)
    made = notes.read_text()
    await asyncio.sleep(0.2)
    assert notes.read_text() == made


async def an_unloaded_model_is_refused_elsewhere(gate: Bench, server: TritonServer) -> None:
    unload = f"{server.url}/v2/repository/models/count--v1/unload"
    async with gate.client.post(unload) as response:
        assert response.status == 200
    for path, named in ((f"{COUNT}/generate", {}), ("/v1/completions", NAMED)):
        asked: dict[str, object] = {"text_input": "x", "prompt": "x"}
        status, headers, body = await gate.post(path, asked, **named)
        assert (status, headers.get("x-fed-refused")) == (503, "engine-down"), body
    assert {doubt[:2] for doubt in gate.doubts} == {("count", 1)}


async def a_dead_stub_is_doubted(gate: Bench, server: TritonServer) -> None:
    for stub in server.stubs():
        os.kill(stub, signal.SIGKILL)
    status, headers, body = await gate.post(f"{ADD}/infer", ONE)
    assert (status, headers.get("x-fed-outcome")) == (500, "unknown"), body
    assert ("add", 2) in {doubt[:2] for doubt in gate.doubts}
