import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import tritonclient.http.aio as triton

from edge_agent.backends.base import StagedVersion
from edge_agent.backends.bundle import served_package
from edge_agent.serving.app import App, Reply
from edge_agent.serving.models import load_model
from edge_agent.serving.sse import EventReader
from tests.engines.app_server import serve_app
from tests.engines.packages import add_package, count_package, notes_of


def app_of(staged: StagedVersion) -> App:
    package = served_package(staged)
    return App(package, load_model(staged.directory, package))


@pytest.fixture
def add(tmp_path: Path) -> App:
    return app_of(add_package(tmp_path, version=2))


@pytest.fixture
def count(tmp_path: Path) -> App:
    return app_of(count_package(tmp_path))


async def post(app: App, path: str, document: Any, **headers: str) -> tuple[int, Any]:
    reply = await app.handle("POST", path, headers, json.dumps(document).encode())
    assert isinstance(reply.body, bytes)
    return reply.status, json.loads(reply.body)


async def get(app: App, path: str) -> tuple[int, Any]:
    reply = await app.handle("GET", path, {}, b"")
    assert isinstance(reply.body, bytes)
    return reply.status, json.loads(reply.body)


def tensors(x: list[float], **rest: Any) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": x},
            {"name": "words", "datatype": "BYTES", "shape": [1, 1], "data": ["hi"]},
        ],
        **rest,
    }


async def test_infer_with_and_without_version(add: App) -> None:
    status, answer = await post(add, "/v2/models/add/infer", tensors([1, 2], id="q"))
    assert (status, answer["id"], answer["model_version"]) == (200, "q", "2")
    assert [o["data"] for o in answer["outputs"]] == [[3, 4], ["HI"]]
    assert (await post(add, "/v2/models/add/versions/2/infer", tensors([1, 2])))[0] == 200


async def test_only_the_outputs_asked_for_come_back(add: App) -> None:
    wanted = tensors([1, 2], outputs=[{"name": "upper"}])
    _, answer = await post(add, "/v2/models/add/infer", wanted)
    assert [output["name"] for output in answer["outputs"]] == ["upper"]


async def test_metadata_and_health(add: App, count: App) -> None:
    _, answer = await get(add, "/v2/models/add/versions/2")
    assert (answer["versions"], answer["inputs"][0]["shape"]) == (["2"], [-1, 2])
    _, answer = await get(count, "/v2/models/count")
    assert [i["name"] for i in answer["inputs"]] == ["text_input"]
    assert await get(add, "/v2/models/add/ready") == (200, {"name": "add", "ready": True})
    assert await get(add, "/v2/health/live") == (200, {"live": True})


@pytest.mark.parametrize(
    ("path", "status", "complaint"),
    [
        ("/v2/models/ad/infer", 404, "no model 'ad'"),
        ("/v2/models/add/versions/1/infer", 404, "only 'add' version 2"),
        ("/v2/models/add/generate", 404, "answers tensors"),
        ("/v2/models/add/nothing", 404, "no path"),
        ("/v1/completions", 404, "answers tensors"),
    ],
)
async def test_what_is_not_here_is_named(add: App, path: str, status: int, complaint: str) -> None:
    found, answer = await post(add, path, tensors([1, 2]))
    assert found == status
    assert complaint in json.dumps(answer)


async def test_a_wrong_method_and_compression_are_refused(add: App) -> None:
    assert (await get(add, "/v2/models/add/infer"))[0] == 405
    packed = {"content-encoding": "gzip"}
    assert (await add.handle("POST", "/v2/models/add/infer", packed, b"")).status == 415


async def test_a_model_that_raises_is_a_500_and_lives_on(add: App) -> None:
    status, answer = await post(add, "/v2/models/add/infer", tensors([666, 0]))
    assert (status, answer["error"]) == (
        500,
        "the model failed: RuntimeError: this number is refused",
    )
    assert (await post(add, "/v2/models/add/infer", tensors([1, 0])))[0] == 200


async def test_text_in_all_unary_dialects(count: App) -> None:
    asked = {"text_input": "a b", "max_tokens": 3}
    assert (await post(count, "/v2/models/count/generate", asked))[1]["text_output"] == "0 1 2 "
    text = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    _, answer = await post(
        count, "/v2/models/count/infer", {"inputs": [text], "parameters": {"max_tokens": 2}}
    )
    assert answer["outputs"][0]["data"] == ["0 1 "]
    _, answer = await post(
        count, "/v1/completions", {"prompt": "a b", "max_tokens": 2, "stop": "1"}
    )
    assert answer["choices"][0] == {
        "index": 0,
        "text": "0 ",
        "logprobs": None,
        "finish_reason": "length",
    }


async def read(reply: Reply) -> list[str]:
    assert not isinstance(reply.body, bytes)
    reader = EventReader()
    return [event async for chunk in reply.body for event in reader.feed(chunk)]


async def test_a_stream_that_fails_at_once_is_an_error_with_a_status(count: App) -> None:
    status, answer = await post(count, "/v2/models/count/generate_stream", {"text_input": "fail"})
    assert (status, answer["error"]) == (500, "the model failed: RuntimeError: told to fail")


async def test_a_stream_that_fails_later_says_so_and_ends(count: App) -> None:
    body = json.dumps({"prompt": "fail later", "stream": True}).encode()
    events = await read(await count.handle("POST", "/v1/completions", {}, body))
    assert json.loads(events[-1])["error"]["type"] == "server_error"
    assert [json.loads(e)["choices"][0]["text"] for e in events[:-1]] == ["0 ", "1 "]


async def test_closing_a_stream_stops_the_model(tmp_path: Path) -> None:
    app = app_of(count_package(tmp_path, pause_s=0.1))
    body = json.dumps({"text_input": "go", "max_tokens": 1000}).encode()
    reply = await app.handle("POST", "/v2/models/count/generate_stream", {}, body)
    assert not isinstance(reply.body, bytes)
    await anext(reply.body)
    await anext(reply.body)
    await reply.body.aclose()  # type: ignore[attr-defined]  # it is a generator
    await asyncio.sleep(0.5)
    assert len(notes_of(tmp_path).read_text().split()) <= 4


async def test_streams_do_not_wait_for_each_other(tmp_path: Path) -> None:
    app = app_of(count_package(tmp_path, pause_s=0.1))
    body = {"text_input": "go", "max_tokens": 5}
    started = asyncio.get_running_loop().time()
    await asyncio.gather(*(post(app, "/v2/models/count/generate", body) for _ in range(8)))
    assert asyncio.get_running_loop().time() - started < 8 * 5 * 0.1 * 0.7


async def test_the_openai_sdk_and_tritonclient_are_content(tmp_path: Path) -> None:
    async with (
        serve_app(app_of(count_package(tmp_path))) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        messages: Any = [{"role": "user", "content": "one two"}]
        chat = await client.chat.completions.create(model="count", messages=messages, max_tokens=4)
        assert chat.choices[0].message.content == "0 1 2 3 "
        stream = await client.chat.completions.create(
            model="count", messages=messages, max_tokens=3, stream=True
        )
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert texts == ["", "0 ", "1 ", "2 ", ""]
        with pytest.raises(openai.BadRequestError, match="'n' is not supported"):
            await client.completions.create(model="count", prompt="x", n=2)


async def test_tritonclient_is_content(add: App) -> None:
    async with (
        serve_app(add) as url,
        triton.InferenceServerClient(url.removeprefix("http://")) as client,
    ):
        words = triton.InferInput("words", [2, 1], "BYTES")
        words.set_data_from_numpy(np.array([["ä".encode()], [b"\x00"]], dtype=object))
        x = triton.InferInput("x", [2, 2], "FP32")
        x.set_data_from_numpy(np.ones((2, 2), np.float32))
        result = await client.infer("add", [x, words], request_id="7")
        assert result.as_numpy("y").tolist() == [[3, 3], [3, 3]]
        assert result.as_numpy("upper").tolist() == [[b"\xc3\xa4"], [b"\x00"]]
        assert await client.is_model_ready("add", "2")
        assert (await client.get_model_metadata("add"))["versions"] == ["2"]
