import asyncio
import json
import random
from collections.abc import AsyncIterator

import aiohttp
import pytest

from edge_agent.backends.base import LoadedVersion
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.gateway.gateway import GatewayLimits, ServedVersion
from federation.contract.types import ModelProtocol, VersionState
from tests.edge_agent.gateway.bench import Bench, PointingBackend, bench, until
from tests.fakes.hostile_heads import HOSTILE_HEADS, hostile_request
from tests.fakes.http_peers import raw_upstream, reply, talk

INFER = "/v2/models/m/versions/1/infer"
TENSORS: dict[str, object] = {"inputs": [{"name": "x", "data": [1]}]}


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine()
    await engine.start()
    await engine.load(LoadedVersion(model="m", version=1))
    await engine.load(LoadedVersion(model="text", version=1, protocol=ModelProtocol.TEXT))
    yield engine
    await engine.stop()


@pytest.fixture
async def gate(engine: FakeEngine) -> AsyncIterator[Bench]:
    async with bench(FakeBackend(engine), limits=GatewayLimits(in_flight=3)) as running:
        yield running


async def test_every_verb_answers_under_the_models_own_name(gate: Bench) -> None:
    status, headers, body = await gate.post(INFER, TENSORS)
    assert (status, headers["x-fed-load"]) == (200, "1")
    assert json.loads(body)["model_name"] == "m"
    _, _, metadata = await gate.get("/v2/models/m/versions/1")
    assert json.loads(metadata) == {"name": "m", "versions": ["1"], "platform": "fake"}
    assert (await gate.get("/v2/models/m/versions/1/ready"))[0] == 200
    path = "/v2/models/text/versions/1"
    _, _, generated = await gate.post(f"{path}/generate", {"text_input": "a b"})
    assert json.loads(generated)["model_name"] == "text"
    _, _, events = await gate.post(f"{path}/generate_stream", {"text_input": "a b"})
    assert events.count(b'"model_name": "text"') == 2
    assert b"text--v1" not in events


async def test_openai_paths_take_model_and_version_from_the_routers_headers(gate: Bench) -> None:
    asked: dict[str, object] = {"model": "text@champion", "prompt": "a b"}
    named = {"x_fed_model": "text", "x_fed_version": "1"}
    status, headers, body = await gate.post("/v1/completions", asked, **named)
    assert (status, headers["x-fed-load"]) == (200, "1")
    assert json.loads(body)["model"] == "text"
    asked = {"messages": [{"role": "user", "content": "a b"}], "stream": True}
    status, headers, body = await gate.post("/v1/chat/completions", asked, **named)
    assert headers["content-type"] == "text/event-stream"
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"x_fed_model": "text"},
        {"x_fed_version": "1"},
        {"x_fed_model": "text", "x_fed_version": "-1"},
        {"x_fed_model": "text", "x_fed_version": "9" * 30},
    ],
)
async def test_openai_paths_without_a_routers_headers_are_refused(
    gate: Bench, named: dict[str, str]
) -> None:
    status, headers, body = await gate.post("/v1/completions", {"prompt": "x"}, **named)
    assert status == 400
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert "x-fed-refused" not in headers


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v2/models/n/versions/1/infer", "does not serve 'n'"),
        ("/v2/models/tex/versions/1/infer", "Did you mean 'text'?"),
        ("/v2/models/m/versions/2/infer", "version 2 of 'm'. It has: 1."),
    ],
)
async def test_what_is_not_served_is_refused_and_may_be_tried_elsewhere(
    gate: Bench, engine: FakeEngine, path: str, words: str
) -> None:
    status, headers, body = await gate.post(path, TENSORS)
    assert (status, headers["x-fed-refused"]) == (404, "not-serving")
    assert words in json.loads(body)["error"]
    assert not engine.requests


async def test_an_unknown_model_on_an_openai_path_has_openais_error(gate: Bench) -> None:
    status, headers, body = await gate.post(
        "/v1/completions", {"prompt": "x"}, x_fed_model="n", x_fed_version="1"
    )
    assert (status, headers["x-fed-refused"]) == (404, "not-serving")
    assert json.loads(body)["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("state", list(VersionState))
async def test_only_warmed_and_draining_versions_are_asked(
    gate: Bench, engine: FakeEngine, state: VersionState
) -> None:
    gate.served["m", 1] = ServedVersion(state, ModelProtocol.TENSOR)
    status, headers, _ = await gate.post(INFER, TENSORS)
    if state in (VersionState.WARMED, VersionState.DRAINING):
        assert status == 200
    else:
        assert (status, headers["x-fed-refused"]) == (503, "not-serving")
        assert headers["retry-after"]
        assert not engine.requests


async def test_a_tensor_model_has_no_text_verbs(gate: Bench) -> None:
    status, headers, body = await gate.post("/v2/models/m/versions/1/generate", {"text_input": "x"})
    assert status == 404
    assert "speaks tensor" in json.loads(body)["error"]
    assert "x-fed-refused" not in headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/metrics", 404),
        ("GET", "/v2", 404),
        ("GET", "/v1/models", 404),
        ("GET", "/v2/models/m", 404),
        ("POST", "/v2/models/m/infer", 404),
        ("POST", "/v2/repository/index", 404),
        ("POST", "/v2/repository/models/m/unload", 404),
        ("GET", "/v2/models/m/versions/1/config", 404),
        ("GET", INFER, 405),
        ("DELETE", "/v2/models/m/versions/1", 405),
        ("POST", "/v2/health/ready", 405),
        ("OPTIONS", "/v1/completions", 405),
    ],
)
async def test_nothing_else_passes(
    gate: Bench, engine: FakeEngine, method: str, path: str, status: int
) -> None:
    async with gate.client.request(method, gate.url + path) as response:
        assert response.status == status
        assert response.headers["x-fed-load"] == "0"
        if status == 405:
            assert response.headers["allow"]
    assert not engine.requests


async def test_more_than_the_ceiling_is_refused_at_once_and_only_for_that_version(
    gate: Bench, engine: FakeEngine
) -> None:
    engine.hang()
    gate.served["other", 1] = gate.served["m", 1]
    held = [asyncio.create_task(gate.post(INFER, TENSORS)) for _ in range(3)]
    await until(lambda: gate.gateway.in_flight("m", 1) == 3)
    status, headers, body = await gate.post(INFER, TENSORS)
    assert (status, headers["x-fed-refused"]) == (503, "saturated")
    assert headers["retry-after"] == "1"
    assert headers["x-fed-load"] == "4"
    assert "3 requests in flight" in json.loads(body)["error"]
    assert (await gate.get("/v2/models/m/versions/1/ready"))[0] == 200
    engine.resume()
    assert [answer[0] for answer in await asyncio.gather(*held)] == [200, 200, 200]
    assert (await gate.post("/v2/models/other/versions/1/infer", TENSORS))[0] != 200
    assert gate.gateway.in_flight("m", 1) == 0


async def test_a_drain_refuses_the_new_and_waits_for_the_old(
    gate: Bench, engine: FakeEngine
) -> None:
    engine.hang()
    old = asyncio.create_task(gate.post(INFER, TENSORS))
    await until(lambda: gate.gateway.in_flight("m", 1) == 1)
    assert (await gate.get("/v2/health/ready"))[0] == 200
    gate.gateway.begin_drain()
    status, headers, _ = await gate.post(INFER, TENSORS)
    assert (status, headers["x-fed-refused"]) == (503, "draining")
    assert (await gate.get("/v2/health/ready"))[0] == 503
    assert (await gate.get("/v2/health/live"))[0] == 200
    assert not await gate.gateway.drained(0.01)
    engine.resume()
    assert (await old)[0] == 200
    assert await gate.gateway.drained(1)


async def test_a_stopped_engine_is_refused_elsewhere_and_doubted(
    gate: Bench, engine: FakeEngine
) -> None:
    await engine.stop()
    status, headers, body = await gate.post(INFER, TENSORS)
    assert (status, headers["x-fed-refused"]) == (503, "engine-down")
    assert "does not answer" in json.loads(body)["error"]
    assert [doubt[:2] for doubt in gate.doubts] == [("m", 1)]


async def test_an_engine_that_forgot_the_model_is_refused_elsewhere_and_doubted(
    gate: Bench, engine: FakeEngine
) -> None:
    await engine.unload(("m", 1))
    status, headers, body = await gate.post(INFER, TENSORS)
    assert (status, headers["x-fed-refused"]) == (503, "engine-down")
    assert json.loads(body) == {"error": "unknown model 'm'"}
    assert gate.doubts


async def test_a_sick_process_is_doubted_and_the_outcome_is_unknown(
    gate: Bench, engine: FakeEngine
) -> None:
    engine.crashed.add(("m", 1))
    status, headers, body = await gate.post(INFER, TENSORS)
    assert (status, headers["x-fed-outcome"]) == (500, "unknown")
    assert "x-fed-refused" not in headers
    assert json.loads(body) == {"error": "the worker of 'm' is not healthy"}
    assert gate.doubts[0][:2] == ("m", 1)


async def test_a_models_own_error_is_passed_on_and_nobody_is_doubted(gate: Bench) -> None:
    status, headers, body = await gate.post(INFER, b"not json")
    assert status == 400
    assert "malformed" in json.loads(body)["error"]
    assert not {"x-fed-refused", "x-fed-outcome"} & {name.lower() for name in headers}
    assert not gate.doubts


async def test_metrics_name_only_what_is_served(gate: Bench) -> None:
    await gate.post(INFER, TENSORS)
    await gate.post("/v2/models/made-up/versions/7/infer", TENSORS)
    value = gate.registry.get_sample_value
    labels = {"model": "m", "version": "1", "verb": "infer", "code": "200"}
    assert value("fed_gateway_requests_total", labels) == 1
    assert value("fed_gateway_refused_total", {"reason": "not-serving"}) == 1
    assert "made-up" not in str([metric.samples for metric in gate.registry.collect()])


async def answer_all(
    head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(reply(b"{}"))
    await writer.drain()


@pytest.mark.parametrize("number", range(len(HOSTILE_HEADS)))
async def test_a_hostile_head_never_reaches_the_engine(number: int) -> None:
    sent = hostile_request(number, INFER)
    async with raw_upstream(answer_all) as upstream, bench(PointingBackend(upstream.url)) as gate:
        answer = await talk(gate.url, sent, seconds=0.7)
        assert not answer.startswith(b"HTTP/1.1 2")
        assert upstream.heads == []
        assert gate.gateway.in_flight("m", 1) == 0
        good = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
        assert (await talk(gate.url, good % INFER.encode())).startswith(b"HTTP/1.1 200")
        assert len(upstream.heads) == 1


async def test_a_second_request_hidden_in_a_body_is_only_a_body() -> None:
    hidden = b"POST /v2/repository/index HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    async with raw_upstream(answer_all) as upstream, bench(PointingBackend(upstream.url)) as gate:
        await talk(gate.url, head % (INFER.encode(), len(hidden)) + hidden)
        assert [h.split(b"\r\n")[0] for h in upstream.heads] == [
            b"POST /v2/models/m--v1/infer HTTP/1.1"
        ]


async def test_a_body_is_not_invited_before_the_head_is_accepted() -> None:
    sent = b"POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    async with raw_upstream(answer_all) as upstream, bench(PointingBackend(upstream.url)) as gate:
        refused = await talk(gate.url, sent % (b"/v2/%2e%2e/x", 5), seconds=1)
        assert refused.startswith(b"HTTP/1.1 400")
        invited = await talk(gate.url, sent % (INFER.encode(), 5), seconds=0.3)
        assert invited.startswith(b"HTTP/1.1 100")


@pytest.mark.parametrize("seed", range(3))
async def test_no_fault_on_either_side_leaks_a_count(seed: int) -> None:
    dice = random.Random(seed)

    async def faulty(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await asyncio.sleep(dice.random() / 50)
        match dice.randrange(6):
            case 0:
                writer.transport.abort()
            case 1:
                writer.write(reply(b"half", length=1000))
            case 2:
                writer.write(b"nonsense\r\n\r\n")
            case 3:
                writer.write(reply(b"x" * 200_000, length=300_000))
                await asyncio.sleep(0.05)
            case 4:
                writer.write(reply(b'{"error":"no"}', status="500 Oops"))
            case _:
                writer.write(reply(b'{"model_name":"m--v1"}'))
        await writer.drain()

    async def client(gate: Bench) -> None:
        try:
            async with asyncio.timeout(dice.random() / 10):
                await gate.post(INFER, b"x" * dice.choice([0, 10, 400_000]))
        except (TimeoutError, aiohttp.ClientError):
            pass

    async with raw_upstream(faulty) as upstream, bench(PointingBackend(upstream.url)) as gate:
        for _ in range(5):
            await asyncio.gather(*(client(gate) for _ in range(20)))
        assert await gate.idle()
        assert gate.gateway.in_flight("m", 1) == 0
        upstream.script = answer_all
        assert (await gate.post(INFER, b"{}"))[0] == 200
