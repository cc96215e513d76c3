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
