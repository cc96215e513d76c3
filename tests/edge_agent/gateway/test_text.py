import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from edge_agent.backends.base import Dialect
from tests.edge_agent.gateway.bench import Bench, PointingBackend, bench
from tests.fakes.http_peers import serving

PATH = "/v2/models/text/versions/1"
NAMED = {"x_fed_model": "text", "x_fed_version": "1"}
SICK = "Stub process 'text--v1_0_0' is not healthy."


class TritonText:
    """An engine that offers generate_stream alone, as a text model of Triton does."""

    def __init__(self) -> None:
        self.events: list[dict[str, object]] = [
            {"model_name": "text--v1", "prompt_tokens": 3, "text_output": "to"},
            {"model_name": "text--v1", "text_output": " be"},
            {"model_name": "text--v1", "text_output": ""},
        ]
        self.asked: list[dict[str, object]] = []
        self.headers: list[dict[str, str]] = []
        self.refusal: web.Response | None = None
        self.step = asyncio.Semaphore(1000)
        self.left = asyncio.Event()
        self.cut = False
        self.app = web.Application()
        self.app.router.add_post("/{path:.*}", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.refusal:
            return self.refusal
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        try:
            for event in self.events:
                await self.step.acquire()
                await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        if self.cut and request.transport:
            request.transport.abort()
        return response


@pytest.fixture
async def engine() -> TritonText:
    return TritonText()


@pytest.fixture
async def gate(engine: TritonText) -> AsyncIterator[Bench]:
    async with (
        serving(engine.app) as url,
        bench(PointingBackend(url, dialect=Dialect.TRITON_TEXT)) as running,
    ):
        yield running


def events(body: bytes) -> list[dict[str, object]]:
    data = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line]
    return [json.loads(line) for line in data if line != b"[DONE]"]


async def test_generate_gathers_the_stream(gate: Bench, engine: TritonText) -> None:
    body: dict[str, object] = {
        "text_input": "hi",
        "max_tokens": 5,
        "parameters": {"temperature": 0.5, "seed": 7, "stop": ["."]},
    }
    status, headers, answer = await gate.post(f"{PATH}/generate", body, traceparent="00-1-2-01")
    assert (status, headers["x-fed-load"]) == (200, "1")
    assert json.loads(answer) == {
        "model_name": "text",
        "model_version": "1",
        "text_output": "to be",
    }
    assert engine.asked == [
        {"text_input": "hi", "max_tokens": 5, "temperature": 0.5, "seed": 7, "stop": ["."]}
    ]
    assert engine.headers[0]["traceparent"] == "00-1-2-01"
    assert engine.headers[0]["content-type"] == "application/json"


async def test_generate_stream_gives_an_event_a_token(gate: Bench) -> None:
    status, headers, body = await gate.post(f"{PATH}/generate_stream", {"text_input": "hi"})
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert [event["text_output"] for event in events(body)] == ["to", " be"]
    assert {event["model_name"] for event in events(body)} == {"text"}


async def test_infer_answers_a_tensor(gate: Bench, engine: TritonText) -> None:
    body: dict[str, object] = {
        "inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["hi"]}]
    }
    status, _, answer = await gate.post(f"{PATH}/infer", body)
    assert status == 200
    assert json.loads(answer)["outputs"][0]["data"] == ["to be"]
    assert json.loads(answer)["model_name"] == "text"
    assert engine.asked[0]["text_input"] == "hi"


async def test_a_binary_infers_own_header_does_not_reach_the_engine(
    gate: Bench, engine: TritonText
) -> None:
    tensor = b"\x02\x00\x00\x00hi"
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "text_input",
                    "datatype": "BYTES",
                    "shape": [1],
                    "parameters": {"binary_data_size": len(tensor)},
                }
            ]
        }
    ).encode()
    status, _, answer = await gate.post(
        f"{PATH}/infer", head + tensor, inference_header_content_length=str(len(head))
    )
    assert status == 200, answer
    assert engine.asked[0]["text_input"] == "hi"
    assert "inference-header-content-length" not in engine.headers[0]


async def test_a_completion_is_openais(gate: Bench) -> None:
    body: dict[str, object] = {"model": "text@champion", "prompt": "hi", "max_tokens": 9}
    status, _, answer = await gate.post("/v1/completions", body, **NAMED)
    document = json.loads(answer)
    assert status == 200
    assert (document["object"], document["model"]) == ("text_completion", "text")
    assert document["choices"][0]["text"] == "to be"
    assert document["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert document["created"] > 1_700_000_000


async def test_a_streamed_chat_is_openais(gate: Bench) -> None:
    body: dict[str, object] = {
        "model": "text",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }
    status, headers, answer = await gate.post("/v1/chat/completions", body, **NAMED)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert answer.endswith(b"data: [DONE]\n\n")
    choices = [event["choices"] for event in events(answer)]
    texts = [choice[0]["delta"].get("content", "") for choice in choices]  # type: ignore[index]
    assert "".join(texts) == "to be"


async def test_each_event_goes_out_before_the_next_one_is_made(
    gate: Bench, engine: TritonText
) -> None:
    engine.step = asyncio.Semaphore(1)
    async with gate.client.post(
        f"{gate.url}{PATH}/generate_stream", json={"text_input": "x"}
    ) as response:
        assert b'"to"' in await response.content.readany()
        engine.step.release()
        assert b'" be"' in await response.content.readany()
        engine.step.release()
        assert await response.content.read() == b""


@pytest.mark.parametrize("begun", [True, False])
async def test_closing_the_client_closes_the_engines_stream_at_once(
    gate: Bench, engine: TritonText, *, begun: bool
) -> None:
    engine.step = asyncio.Semaphore(1 if begun else 0)
    host, port = gate.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = b'{"text_input":"x"}'
    head = f"POST {PATH}/generate_stream HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    if begun:
        await reader.readuntil(b'"to"')
    while not engine.asked:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    writer.close()
    async with asyncio.timeout(5):
        await engine.left.wait()
    assert await gate.idle(5)
    assert not gate.doubts


@pytest.mark.parametrize(("path", "named"), [(f"{PATH}/generate", {}), ("/v1/completions", NAMED)])
async def test_an_error_before_the_first_token_has_a_status(
    gate: Bench, engine: TritonText, path: str, named: dict[str, str]
) -> None:
    engine.events = [{"error": "'text--v1' ran out of ideas"}]
    for stream in (False, True):
        body: dict[str, object] = {"text_input": "x", "prompt": "x", "stream": stream}
        status, headers, answer = await gate.post(path, body, **named)
        assert status == 500
        error = json.loads(answer)["error"]
        assert "'text' ran out of ideas" in (error["message"] if named else error)
        assert headers["content-type"] == "application/json"
    assert not gate.doubts


async def test_an_error_inside_a_stream_is_its_last_event(gate: Bench, engine: TritonText) -> None:
    engine.events.insert(1, {"error": SICK})
    body: dict[str, object] = {"prompt": "x", "stream": True}
    status, _, answer = await gate.post("/v1/completions", body, **NAMED)
    assert status == 200
    last = events(answer)[-1]
    assert "is not healthy" in json.dumps(last["error"])
    assert b"[DONE]" not in answer
    assert b"text--v1" not in answer
    assert gate.doubts[0][:2] == ("text", 1)


async def test_a_sick_process_before_the_first_token_is_doubted(
    gate: Bench, engine: TritonText
) -> None:
    engine.events = [{"error": SICK}]
    status, headers, _ = await gate.post(f"{PATH}/generate", {"text_input": "x"})
    assert (status, headers["x-fed-outcome"]) == (500, "unknown")
    assert gate.doubts


@pytest.mark.parametrize("event", [{}, {"text_output": 3}, {"text_output": None}])
async def test_an_event_without_text_is_an_error_and_not_silence(
    gate: Bench, engine: TritonText, event: dict[str, object]
) -> None:
    engine.events = [event]
    status, _, answer = await gate.post(f"{PATH}/generate", {"text_input": "x"})
    assert status == 500
    assert "event without text" in json.loads(answer)["error"]


async def test_an_engine_that_refuses_is_understood_in_every_dialect(
    gate: Bench, engine: TritonText
) -> None:
    said = {"error": "Request for unknown model: 'text--v1' is not found"}
    engine.refusal = web.json_response(said, status=400)
    status, headers, answer = await gate.post("/v1/completions", {"prompt": "x"}, **NAMED)
    assert (status, headers["x-fed-refused"]) == (503, "engine-down")
    message = json.loads(answer)["error"]["message"]
    assert message == "Request for unknown model: 'text' is not found"
    assert gate.doubts


async def test_an_engine_that_answers_no_stream_is_a_bad_gateway(
    gate: Bench, engine: TritonText
) -> None:
    engine.refusal = web.json_response({"text_output": "x"})
    status, headers, _ = await gate.post(f"{PATH}/generate", {"text_input": "x"})
    assert (status, headers["x-fed-outcome"]) == (502, "unknown")


async def test_a_whole_answer_from_a_cut_stream_is_a_failure(
    gate: Bench, engine: TritonText
) -> None:
    engine.cut = True
    status, headers, _ = await gate.post(f"{PATH}/generate", {"text_input": "x"})
    assert (status, headers["x-fed-outcome"]) == (502, "unknown")
    with pytest.raises(aiohttp.ClientError):
        await gate.post(f"{PATH}/generate_stream", {"text_input": "x"})


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (f"{PATH}/generate", b"{", "JSON"),
        (f"{PATH}/generate", b"{}", "text_input"),
        (f"{PATH}/generate", b'{"text_input":"x","max_tokens":-1}', "max_tokens"),
        ("/v1/completions", b'{"prompt":["a","b"]}', "prompt"),
        ("/v1/chat/completions", b'{"messages":[]}', "messages"),
        ("/v1/completions", b'{"prompt":"x","n":2}', "'n' is not supported"),
    ],
)
async def test_a_bad_request_never_reaches_the_engine(
    gate: Bench, engine: TritonText, path: str, body: bytes, words: str
) -> None:
    status, _, answer = await gate.post(path, body, **NAMED)
    error = json.loads(answer)["error"]
    assert status == 400
    assert words in (error["message"] if path.startswith("/v1") else error)
    assert not engine.asked


async def test_a_compressed_body_is_refused_in_words(gate: Bench, engine: TritonText) -> None:
    status, _, answer = await gate.post(f"{PATH}/generate", b"\x1f\x8b", content_encoding="gzip")
    assert (status, "compressed" in json.loads(answer)["error"]) == (415, True)
    assert not engine.asked
