"""An unchanged tritonclient against real Tritons, through gateways and a router."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from edge_agent.backends.triton import TritonBackend
from federation.contract.types import ModelRoute
from federation.demo.triton_install import TritonInstallation
from router.policy import table as tables
from tests.engines.packages import add_package, count_package
from tests.engines.triton import TritonServer
from tests.router.fakes import make_snapshot
from tests.router.grpc.world import World, eventually, world

pytestmark = [pytest.mark.triton, pytest.mark.timeout(120)]
ROUTES = (ModelRoute(name="add", default_version=1), ModelRoute(name="count", default_version=1))


@asynccontextmanager
async def two_tritons(
    installation: TritonInstallation, folder: Path
) -> AsyncIterator[tuple[World, list[TritonServer]]]:
    servers = [TritonServer(installation, folder / name) for name in ("a", "b")]
    try:
        for number, server in enumerate(servers):
            await asyncio.to_thread(server.start)
            backend = TritonBackend(server.url, server.repository)
            for staged in (
                add_package(folder / f"packages-{number}"),
                count_package(folder / f"packages-{number}", pause_s=0.01),
            ):
                await backend.load(staged)
            await backend.close()
        addresses = {
            name: f"127.0.0.1:{int(server.address.rpartition(':')[2]) + 1}"
            for name, server in zip(("eu-1", "us-1"), servers, strict=True)
        }
        async with world("eu-1", "us-1", addresses=addresses) as w:
            urls = {name: c.url for name, c in w.clusters.items()}
            w.state.swap(tables.build(make_snapshot(urls, version=2, routes=ROUTES)))
            yield w, servers
    finally:
        for server in servers:
            server.kill()


def inputs(value: float = 1.0) -> list[Any]:
    numbers = np.array([[value, 2.0]], np.float32)
    words = np.array([["hi"]], dtype=object)
    made = [
        triton.InferInput("x", list(numbers.shape), "FP32"),
        triton.InferInput("words", list(words.shape), "BYTES"),
    ]
    made[0].set_data_from_numpy(numbers)
    made[1].set_data_from_numpy(words)
    return made


def prompt(words: str, tokens: int) -> list[Any]:
    text = triton.InferInput("text_input", [1], "BYTES")
    text.set_data_from_numpy(np.array([words], dtype=object))
    most = triton.InferInput("max_tokens", [1], "INT32")
    most.set_data_from_numpy(np.array([tokens], np.int32))
    return [text, most]


def use_everything(address: str) -> None:
    """What a program does that knows of one Triton."""
    client = triton.InferenceServerClient(address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("add")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata().name == "inference-federation"
    metadata = client.get_model_metadata("add")
    assert (metadata.name, list(metadata.versions)) == ("add", ["1", "2"])
    assert {tensor.name for tensor in metadata.inputs} == {"x", "words"}
    found = client.infer("add", inputs(), request_id="7")
    assert found.as_numpy("y").tolist() == [[2.0, 3.0]]
    answer = found.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("add", "1", "7")
    for algorithm in ("gzip", "deflate"):
        found = client.infer("add", inputs(), compression_algorithm=algorithm)
        assert found.as_numpy("y").tolist() == [[2.0, 3.0]]
    with pytest.raises(InferenceServerException, match="this number is refused") as error:
        client.infer("add", inputs(666))
    assert "add--v1" not in str(error.value)
    with pytest.raises(InferenceServerException, match="no model 'nope'"):
        client.infer("nope", inputs())
    with pytest.raises(InferenceServerException, match="UNIMPLEMENTED"):
        client.load_model("add")
    with pytest.raises(InferenceServerException, match="UNIMPLEMENTED"):
        client.unregister_system_shared_memory()
    found = client.infer("add", inputs(), headers={"x-big": "z" * 12_000})
    assert found.as_numpy("upper").tolist() == [[b"HI"]]
    answers: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
    for i in range(100):
        client.async_infer(
            "add", inputs(i), callback=lambda result, error, i=i: answers.put((i, result, error))
        )
    for _ in range(100):
        i, result, late = answers.get(timeout=30)
        assert late is None, late
        assert result.as_numpy("y")[0][0] == i + 1
    client.close()


def use_a_stream(address: str, tokens: int = 20) -> int:
    client = triton.InferenceServerClient(address)
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer(
        "count", prompt("say", tokens), enable_empty_final_response=True, request_id="s"
    )
    count = 0
    while True:
        result, error = answers.get(timeout=30)
        assert error is None, str(error)
        response = result.get_response()
        assert response.model_name == "count"
        if response.parameters["triton_final_response"].bool_param:
            break
        count += 1
    client.stop_stream()
    client.close()
    return count


async def use_aio(address: str) -> None:
    client = triton_aio.InferenceServerClient(address)
    assert await client.is_server_live()
    found = await asyncio.gather(*(client.infer("add", inputs(i)) for i in range(100)))
    assert [f.as_numpy("y")[0][0] for f in found] == [i + 1 for i in range(100)]
    await client.close()


async def test_an_unchanged_client(triton_installation: TritonInstallation, tmp_path: Path) -> None:
    async with two_tritons(triton_installation, tmp_path) as (w, servers):
        await asyncio.to_thread(use_everything, w.address)
        assert await asyncio.to_thread(use_a_stream, w.address) >= 20
        await use_aio(w.address)
        await eventually(lambda: w.quiet)
        await a_killed_triton_costs_no_call(w, servers)


async def a_killed_triton_costs_no_call(w: World, servers: list[TritonServer]) -> None:
    """kill -9 under load: every call is answered."""
    done = threading.Event()
    failed: list[str] = []
    counts: list[int] = []

    def load() -> None:
        client = triton.InferenceServerClient(
            w.address, channel_args=[("grpc.use_local_subchannel_pool", 1)]
        )
        count = 0
        while not done.is_set():
            try:
                number = count % 600  # the model refuses 666
                assert client.infer("add", inputs(number)).as_numpy("y")[0][0] == number + 1
                count += 1
            except InferenceServerException as error:
                failed.append(str(error))
        counts.append(count)
        client.close()

    running = [asyncio.get_running_loop().run_in_executor(None, load) for _ in range(4)]
    await asyncio.sleep(1.0)
    await asyncio.to_thread(servers[0].kill)
    await asyncio.sleep(1.5)
    done.set()
    await asyncio.gather(*running)
    assert failed == []
    assert sum(counts) > 50
    print("calls", sum(counts), "retries", w.service.switch.counts.retries)
    await eventually(lambda: w.quiet)
