import json
from collections.abc import AsyncIterator

import numpy as np
import pytest
from aiohttp import web

from edge_agent.backends.base import BackendError
from edge_agent.backends.engine_http import Answer, EngineHttp
from edge_agent.backends.warmup import reason_of, sample_request, warm_tensors, warm_text
from edge_agent.serving.v2 import parse_infer
from edge_agent.serving.v2_terms import Tensor

X = Tensor(name="x", datatype="FP16", shape=(-1, 3))
WORDS = Tensor(name="w", datatype="BYTES", shape=(2,))
FLAG = Tensor(name="f", datatype="BOOL", shape=(1,))


def test_a_sample_is_repeated_and_a_missing_one_is_zeros() -> None:
    body = sample_request([X, WORDS, FLAG], {"x": [1, 2], "w": "hi"})
    inputs = parse_infer(dict(body.headers), body.data).inputs
    assert inputs["x"].tolist() == [[1, 2, 1]]
    assert inputs["w"].tolist() == [b"hi", b"hi"]
    assert inputs["f"].tolist() == [False]


def test_a_nested_or_too_long_sample_is_taken_flat() -> None:
    body = sample_request([X], {"x": [[1, 2], [3, 4]]})
    assert parse_infer(dict(body.headers), body.data).inputs["x"].tolist() == [[1, 2, 3]]
    body = sample_request([X], {"x": []})
    assert not np.any(parse_infer(dict(body.headers), body.data).inputs["x"])


def test_a_sample_of_the_wrong_kind_is_an_error_that_names_it() -> None:
    with pytest.raises(BackendError, match="warm-up sample: input 'x': the data are not all FP16"):
        sample_request([X], {"x": ["one"]})


def test_reasons_come_in_one_line_from_any_body() -> None:
    assert reason_of(Answer(500, b'{"error": "a\\nb"}')) == "a b (status 500)"
    assert reason_of(Answer(400, b'data: {"error": "a"}\n\n')) == "a (status 400)"
    assert reason_of(Answer(502, b"<html>")) == "<html> (status 502)"
    assert reason_of(Answer(502, b"")) == "no message (status 502)"


@pytest.fixture
async def http() -> AsyncIterator[EngineHttp]:
    """An engine that answers with the query's status and text."""

    async def answer(request: web.Request) -> web.Response:
        body = request.query["body"].replace("|", "\n\n")
        return web.Response(status=int(request.query.get("status", "200")), text=body)

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = EngineHttp(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield client
    await client.close()
    await runner.cleanup()


async def test_tensors_must_come_back(http: EngineHttp) -> None:
    await warm_tensors(http, '/?body={"outputs":[]}', [X], {})
    with pytest.raises(BackendError, match="gave no outputs"):
        await warm_tensors(http, "/?body={}", [X], {})
    with pytest.raises(BackendError, match=r"failed: sad \(status 500\)"):
        await warm_tensors(http, '/?status=500&body={"error":"sad"}', [X], {})


async def test_at_least_one_token_must_come(http: EngineHttp) -> None:
    await warm_text(http, f"/?body=data: {json.dumps({'text_output': 'x'})}|", {})
    for path, complaint in (
        ("/?body=", "answered nothing"),
        ('/?body=data: {"error": "sad"}|', "failed: .*sad"),
        ('/?status=400&body=data: {"error": "sad"}|', r"failed: sad \(status 400\)"),
        ("/?body=data: nonsense|", "no JSON"),
    ):
        with pytest.raises(BackendError, match=complaint):
            await warm_text(http, path, {"prompt": "p"})
