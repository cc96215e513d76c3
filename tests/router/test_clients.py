"""The clients that people have, unchanged: tritonclient and the openai SDK."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import openai
import pytest
import tritonclient.http as triton
from aiohttp import web
from tritonclient.utils import InferenceServerException

from tests.router.fakes import FakeGateway, RouterUnderTest, gateways, router_for


@pytest.fixture
async def world() -> AsyncIterator[tuple[RouterUnderTest, dict[str, FakeGateway]]]:
    async with gateways("eu-1", "us-1") as fakes:
        urls = {name: fake.url for name, fake in fakes.items()}
        async with router_for(urls) as router:
            yield router, fakes


async def echo(request: web.Request) -> web.StreamResponse:
    """A V2 model that returns its only binary input."""
    body = await request.read()
    size = int(request.headers["Inference-Header-Content-Length"])
    tensor = body[size:]
    head = (
        b'{"model_name":"digits","model_version":"2","outputs":[{"name":"OUT","datatype":"FP32",'
        b'"shape":[1,%d],"parameters":{"binary_data_size":%d}}]}' % (len(tensor) // 4, len(tensor))
    )
    return web.Response(
        body=head + tensor,
        headers={
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
            "x-fed-load": "1",
        },
    )


async def test_tritonclient(world: tuple[RouterUnderTest, dict[str, FakeGateway]]) -> None:
    router, fakes = world
    for fake in fakes.values():
        fake.fault = echo
    address = router.url.removeprefix("http://")

    def use() -> None:
        with triton.InferenceServerClient(address) as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            assert client.get_server_metadata()["name"] == "inference-federation"
            assert client.is_model_ready("digits")
            assert client.is_model_ready("digits", "1")
            assert not client.is_model_ready("digits", "9")
            given = triton.InferInput("IN", [1, 3], "FP32")
            given.set_data_from_numpy(np.array([[1, 2, 3]], dtype=np.float32))
            for version in ("", "1"):
                answer = client.infer("digits", [given], model_version=version)
                assert answer.as_numpy("OUT").tolist() == [[1.0, 2.0, 3.0]]
            with pytest.raises(InferenceServerException, match="Did you mean 'digits'"):
                client.infer("digit", [given])

    await asyncio.to_thread(use)
    paths = {path for fake in fakes.values() for path, _ in fake.heads}
    assert paths == {f"/v2/models/digits/versions/{v}/infer" for v in (1, 2)}


async def test_openai(world: tuple[RouterUnderTest, dict[str, FakeGateway]]) -> None:
    router, fakes = world
    async with openai.AsyncOpenAI(base_url=router.url + "/v1", api_key="any") as client:
        assert [m.id async for m in client.models.list()] == ["digits", "poet", "private"]
        assert (await client.models.retrieve("poet")).owned_by == "inference-federation"
        completion = await client.completions.create(model="poet@1", prompt="x")
        assert completion.choices[0].text.startswith("from ")
        chat = await client.chat.completions.create(
            model="poet", messages=[{"role": "user", "content": "x"}]
        )
        assert (chat.choices[0].message.content or "").startswith("from ")
        stream = await client.completions.create(model="poet", prompt="x", stream=True)
        async with asyncio.timeout(10):  # the second event waits for `more`
            assert (await anext(stream)).choices[0].text == "first"
        for fake in fakes.values():
            fake.more.set()
        assert [event.choices[0].text async for event in stream] == ["second"]
        with pytest.raises(openai.NotFoundError) as caught:
            await client.completions.create(model="poett", prompt="x")
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError, match="takes tensors"):
            await client.completions.create(model="digits", prompt="x")


DOCUMENTS: dict[str, dict[str, object]] = {
    "embeddings": {"object": "list", "data": [{"index": 0, "embedding": [0.5, -1.0]}]},
    "responses": {"id": "r", "object": "response", "output": []},
    "rerank": {"results": [{"index": 1, "relevance_score": 0.9}]},
    "score": {"data": [{"index": 0, "score": 0.7}]},
}


async def others(request: web.Request) -> web.StreamResponse:
    """What OpenAI-compatible engines offer besides chat; the first piece of a stream, and its end
    by force, where one is asked for."""
    asked = await request.json()
    assert asked["model"] == "poet"
    headers = {"x-fed-load": "1"}
    if asked.get("stream"):
        response = web.StreamResponse(headers={**headers, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'event: response.created\ndata: {"type":"response.created"}\n\n')
        assert request.transport is not None
        request.transport.close()
        return response
    usage = {"prompt_tokens": 3, "input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
    kind = request.path.removeprefix("/v1/")
    body = {"model": "poet", "usage": usage, **DOCUMENTS[kind]}
    return web.json_response(body, headers=headers)


async def test_openai_beyond_chat(
    world: tuple[RouterUnderTest, dict[str, FakeGateway]],
) -> None:
    router, fakes = world
    for fake in fakes.values():
        fake.fault = others
    async with openai.AsyncOpenAI(base_url=router.url + "/v1", api_key="any") as client:
        vector = await client.embeddings.create(
            model="poet", input="to be", encoding_format="float"
        )
        assert vector.data[0].embedding == [0.5, -1.0]
        assert (await client.responses.create(model="poet", input="x")).id == "r"
        for path, found in (("/rerank", "results"), ("/score", "data")):
            answer = await client.post(path, cast_to=object, body={"model": "poet"})
            assert isinstance(answer, dict)
            assert answer[found][0]["index"] in (0, 1)
        with pytest.raises(openai.BadRequestError, match="takes tensors"):
            await client.embeddings.create(model="digits", input="x")
    paths = [path for fake in fakes.values() for path, _ in fake.heads]
    assert sorted(paths) == ["/v1/embeddings", "/v1/rerank", "/v1/responses", "/v1/score"]


async def test_a_stream_of_responses_that_breaks_off_says_so_in_its_own_words(
    world: tuple[RouterUnderTest, dict[str, FakeGateway]],
) -> None:
    router, fakes = world
    for fake in fakes.values():
        fake.fault = others
    async with openai.AsyncOpenAI(base_url=router.url + "/v1", api_key="any") as client:
        stream = await client.responses.create(model="poet", input="x", stream=True)
        events = [event async for event in stream]
    assert events[0].type == "response.created"
    assert events[1].type == "error"
    assert "broke off" in events[1].message


async def test_an_openai_client_that_leaves_stops_the_generation(
    world: tuple[RouterUnderTest, dict[str, FakeGateway]],
) -> None:
    router, fakes = world
    async with openai.AsyncOpenAI(base_url=router.url + "/v1", api_key="any") as client:
        stream = await client.completions.create(model="poet", prompt="x", stream=True)
        await anext(stream)
        await stream.close()
        waiting = [asyncio.create_task(fake.cancelled.wait()) for fake in fakes.values()]
        async with asyncio.timeout(10):
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
