"""Tenants, keys and limits, through real HTTP: what clients see, and what clusters never see."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import openai
import pytest
import tritonclient.http as triton
from aiohttp import web
from tritonclient.utils import InferenceServerException

from federation.contract.access import Access, Tenant
from router.policy import table as tables
from tests.router.access_world import KEYS, OLD_KEY, PEPPER, access, bearer
from tests.router.fakes import (
    FakeGateway,
    RouterUnderTest,
    eventually,
    gateways,
    hang,
    make_snapshot,
    refuse,
    reset,
    router_for,
)
from tests.router.test_clients import echo

World = tuple[RouterUnderTest, dict[str, FakeGateway]]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with gateways("eu-1", "us-1") as fakes:
        urls = {name: fake.url for name, fake in fakes.items()}
        async with router_for(urls, access=access()) as router:
            yield router, fakes


async def test_a_key_in_either_header_opens_the_door_and_goes_no_further(world: World) -> None:
    router, fakes = world
    for headers in (bearer("acme"), {"x-api-key": KEYS["acme"]}):
        assert (await router.infer(headers=headers))[0] == 200
    for fake in fakes.values():
        for path, head in fake.heads:
            assert not {"authorization", "x-api-key"} & set(head)
            assert KEYS["acme"] not in f"{path} {head}"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v2/models/digits/infer"])
async def test_without_a_valid_key_the_dialect_of_the_path_says_401(
    world: World, path: str
) -> None:
    router, fakes = world
    for headers in ({}, {"x-api-key": "sk-1"}, {"Authorization": f"Bearer {OLD_KEY}"}):
        status, told, body = await router.ask("POST", path, body=b"{}", headers=headers)
        assert (status, told["www-authenticate"]) == (401, "Bearer")
        assert "x-request-id" in told
        error = json.loads(body)["error"]
        assert (error["type"] if path.startswith("/v1") else "authentication_error") == (
            "authentication_error"
        )
        assert "key" in (error["message"] if path.startswith("/v1") else error)
        assert OLD_KEY.encode() not in body
    assert all(not fake.heads for fake in fakes.values())


async def test_a_router_without_keys_tells_how_to_make_one() -> None:
    async with router_for({}, access=Access()) as router:
        for headers in ({}, bearer("acme")):
            status, _, body = await router.infer(headers=headers)
            assert status == 401
            assert b"fed key create" in body
        for path in ("/healthz", "/v2/health/live", "/v2/health/ready"):
            assert (await router.ask("GET", path))[0] == 200


async def raw(router: RouterUnderTest, head: str) -> bytes:
    """Send a head with nothing after it; return what comes back before a body was sent."""
    host, port = router.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(head.replace("\n", "\r\n").encode())
        await writer.drain()
        async with asyncio.timeout(5):
            return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()


async def test_strangers_are_not_invited_to_upload(world: World) -> None:
    router, _ = world
    head = "POST {path} HTTP/1.1\nHost: x\nContent-Length: 60000000\n{more}Expect: 100-continue\n\n"
    v2, v1 = "/v2/models/digits/infer", "/v1/chat/completions"
    for path in (v2, v1):
        assert (await raw(router, head.format(path=path, more=""))).startswith(b"HTTP/1.1 401")
        key = f"Authorization: Bearer {KEYS['acme']}\n"
        assert (await raw(router, head.format(path=path, more=key))).startswith(b"HTTP/1.1 100")
    small = f"x-api-key: {KEYS['small']}\n"
    answer = await raw(router, head.format(path="/v2/models/poet/infer", more=small))
    assert answer.startswith(b"HTTP/1.1 403")
    assert (await router.infer(headers=bearer("small")))[0] == 200
    answer = await raw(router, head.format(path=v2, more=small))
    assert answer.startswith(b"HTTP/1.1 429")
    assert b"Retry-After: 60\r\n" in answer
    # The same, said without Expect: answered although the body never comes.
    plain = head.replace("Expect: 100-continue\n", "")
    assert (await raw(router, plain.format(path=v2, more=""))).startswith(b"HTTP/1.1 401")
    assert (await raw(router, plain.format(path=v2, more=small))).startswith(b"HTTP/1.1 429")


async def test_only_allowed_models_are_served_listed_or_hinted_at(world: World) -> None:
    router, fakes = world
    picky = bearer("picky")
    status, _, body = await router.infer("poet", headers=picky)
    assert (status, json.loads(body)["error"]) == (
        403,
        "The key of tenant 'picky' may not use model 'poet'. It may use: digit*.",
    )
    for model in ("poet", "poet@2", "nothing"):
        sent = json.dumps({"model": model}).encode()
        status, _, body = await router.ask("POST", "/v1/completions", body=sent, headers=picky)
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (403, "model_not_allowed")
        assert error["type"] == "permission_error"
    _, _, body = await router.ask("GET", "/v1/models", headers=picky)
    assert [model["id"] for model in json.loads(body)["data"]] == ["digits"]
    for path in ("/v1/models/poet", "/v2/models/poet/ready", "/v2/models/poet"):
        assert (await router.ask("GET", path, headers=picky))[0] == 403
    status, _, body = await router.ask("GET", "/v1/models/digitz", headers=picky)
    assert (status, b"poet" in body, b"'digits'" in body) == (404, False, True)
    assert all(not fake.heads for fake in fakes.values())


async def test_the_limits_are_told_on_every_answer_and_kept(world: World) -> None:
    router, fakes = world
    status, told, _ = await router.infer(headers=bearer("small"))
    assert (status, told["x-ratelimit-limit-requests"]) == (200, "1")
    assert told["x-ratelimit-remaining-requests"] == "0"
    assert float(told["x-ratelimit-reset-requests"].rstrip("s")) <= 60
    status, told, body = await router.infer(headers=bearer("small"))
    assert (status, told["x-ratelimit-remaining-requests"]) == (429, "0")
    assert 1 <= int(told["retry-after"]) <= 60
    assert "Try again in" in json.loads(body)["error"]
    status, told, _ = await router.infer(headers=bearer("acme"))
    assert status == 200
    assert not [name for name in told if name.startswith("x-ratelimit")]
    assert sum(fake.inferences for fake in fakes.values()) == 2


def spends(fakes: dict[str, FakeGateway], total: int | None) -> None:
    """Have the clusters answer like OpenAI engines, with or without a count of tokens."""

    async def answer(request: web.Request) -> web.StreamResponse:
        usage = {} if total is None else {"usage": {"total_tokens": total}}
        document = {"choices": [{"text": "x" * 40}], **usage}
        return web.json_response(document, headers={"x-fed-load": "1"})

    for fake in fakes.values():
        fake.fault = answer


async def complete(router: RouterUnderTest, tenant: str) -> tuple[int, dict[str, str], bytes]:
    body = b'{"model": "poet", "prompt": "x"}'
    headers = bearer(tenant) | {"Accept-Encoding": "gzip, br"}
    return await router.ask("POST", "/v1/completions", body=body, headers=headers)


async def test_tokens_are_what_the_engine_counted(world: World) -> None:
    router, fakes = world
    spends(fakes, 1)
    status, told, _ = await complete(router, "tokens")
    assert (status, told["x-ratelimit-limit-tokens"]) == (200, "60")
    spends(fakes, 70)
    assert (await complete(router, "tokens"))[0] == 200
    status, told, body = await complete(router, "tokens")
    assert (status, b"tokens a minute" in body) == (429, True)
    assert 55 <= int(told["retry-after"]) <= 70
    assert told["x-ratelimit-remaining-tokens"] == "0"
    heads = [head for fake in fakes.values() for _, head in fake.heads]
    assert {head["accept-encoding"] for head in heads} == {"identity"}
    # Tensors have no tokens, and cost none.
    for fake in fakes.values():
        fake.fault = None
    assert (await router.infer("digits", headers=bearer("tokens")))[0] == 200
    page = router.metrics.page().decode()
    assert 'fed_router_tenant_tokens_total{tenant="tokens"} 71.0' in page


async def test_a_failed_request_costs_no_tokens(world: World) -> None:
    router, fakes = world
    for fake in fakes.values():
        fake.fault = refuse
    for _ in range(5):
        assert (await complete(router, "tokens"))[0] == 503
    spends(fakes, None)
    assert (await complete(router, "tokens"))[0] == 200
    assert 'tokens_total{tenant="tokens"} 18.0' in router.metrics.page().decode()


async def test_a_stream_is_metered_as_it_passes_even_when_its_client_leaves(world: World) -> None:
    router, _ = world
    body = json.dumps({"model": "poet", "stream": True}).encode()
    async with router.session.post(
        router.url + "/v1/completions", data=body, headers=bearer("single")
    ) as response:
        assert b"first" in await response.content.readuntil(b"\n\n")
        # Its place is taken until the stream ends.
        status, told, answer = await router.infer(headers=bearer("single"))
        assert (status, told["retry-after"], b"at once" in answer) == (429, "1", True)
        response.close()
    await eventually(lambda: "'single': 1" not in repr(router.proxy))
    page = router.metrics.page().decode()
    assert 'fed_router_tenant_tokens_total{tenant="single"}' in page
    assert (await router.infer(headers=bearer("single")))[0] == 200


async def test_places_are_given_back_however_requests_end(world: World) -> None:
    router, fakes = world
    for fault in (refuse, reset, None):
        for fake in fakes.values():
            fake.fault = fault
        for _ in range(3):
            status, _, _ = await router.infer(headers=bearer("single"))
            assert status == (503 if fault else 200)
    for fake in fakes.values():
        fake.fault = hang
    headers = bearer("single") | {"x-fed-deadline-ms": "50"}
    assert (await router.infer(headers=headers))[0] == 504
    waiting = asyncio.get_running_loop().create_task(router.infer(headers=bearer("single")))
    await eventually(lambda: "'single': 1" in repr(router.proxy))
    waiting.cancel()
    await eventually(lambda: "'single': 1" not in repr(router.proxy))


async def test_residency_of_the_tenant_holds_for_every_request_and_retry(world: World) -> None:
    router, fakes = world
    for healthy in ("us-1", "eu-1"):
        for name, fake in fakes.items():
            fake.fault = None if name == healthy else reset
        before = fakes["us-1"].inferences
        for _ in range(10):
            status, told, _ = await router.infer(headers=bearer("euro"))
            assert status == (200 if healthy == "eu-1" else 503)
            assert told.get("x-fed-region", "eu") == "eu"
        assert fakes["us-1"].inferences == before
        router.state.signals.retain({})  # forget what failed
        router.state.signals.retain({name: fake.url for name, fake in fakes.items()})
    # Nothing in the region serves it at all: said so, not served elsewhere.
    swap(router, {"us-1": fakes["us-1"].url}, access())
    status, _, body = await router.infer(headers=bearer("euro"))
    assert (status, b"in eu, where requests with this key must stay" in body) == (503, True)
    _, _, body = await router.ask("GET", "/v2/models/digits/ready", headers=bearer("euro"))
    assert b"must stay" in body


def swap(router: RouterUnderTest, urls: dict[str, str], allowed: Access) -> None:
    """The control plane sends another snapshot."""
    snapshot = replace(make_snapshot(urls, version=2), access=allowed)
    router.state.swap(tables.build(snapshot, router.state.reach))


async def test_a_model_and_a_key_that_share_no_region_are_told_apart_from_an_outage() -> None:
    tenants = access()
    async with (
        gateways("us-1") as fakes,
        router_for({"us-1": fakes["us-1"].url}, access=tenants) as router,
    ):
        moved = tuple(
            Tenant(name="euro", residency=("us",)) if t.name == "euro" else t
            for t in tenants.tenants
        )
        swap(router, {"us-1": fakes["us-1"].url}, replace(tenants, tenants=moved))
        status, _, body = await router.infer("private", headers=bearer("euro"))
        assert (status, b"in eu only" in body, b"in us only" in body) == (403, True, True)


async def test_a_revoked_key_ends_with_the_next_snapshot(world: World) -> None:
    router, fakes = world
    assert (await router.infer(headers=bearer("acme")))[0] == 200
    urls = {name: fake.url for name, fake in fakes.items()}
    less = Access(
        pepper=PEPPER,
        tenants=access().tenants,
        keys=tuple(k for k in access().keys if k.tenant != "acme"),
    )
    swap(router, urls, less)
    assert (await router.infer(headers=bearer("acme")))[0] == 401
    assert (await router.infer(headers=bearer("euro")))[0] == 200


async def test_tenants_that_are_gone_leave_no_metrics(world: World) -> None:
    router, _ = world
    await router.infer(headers=bearer("small"))
    await router.infer()
    page = router.metrics.page().decode()
    assert 'fed_router_tenant_requests_total{code_class="2xx",tenant="small"} 1.0' in page
    assert 'fed_router_refused_total{reason="missing-key"} 1.0' in page
    assert "k-small" not in page
    swap(router, {}, Access())
    assert 'tenant="small"' not in router.metrics.page().decode()
    assert "0 accounts" in repr(router.proxy)


async def test_no_key_is_ever_logged(
    world: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    router, fakes = world
    caplog.set_level(logging.DEBUG)
    for fault in (None, refuse, reset):
        for fake in fakes.values():
            fake.fault = fault
        for key in (KEYS["acme"], KEYS["acme"] + "x", OLD_KEY):
            for headers in ({"Authorization": f"Bearer {key}"}, {"x-api-key": key}):
                _, told, body = await router.infer(headers=headers)
                assert key not in f"{told} {body!r}"
    host, port = router.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            f"GET / HTTP/1.1\r\nAuthorization: Bearer {KEYS['acme']}\x00\r\n\r\n".encode()
        )
    logged = caplog.text + "".join(capfd.readouterr()) + router.metrics.page().decode()
    for secret in (KEYS["acme"], OLD_KEY, PEPPER):
        assert secret not in logged


# ------------------------------------------------------------ the clients that people have


async def test_openai(world: World) -> None:
    router, fakes = world
    base = router.url + "/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key=KEYS["acme"]) as client:
        assert [m.id async for m in client.models.list()] == ["digits", "poet", "private"]
        answer = await client.completions.create(model="poet", prompt="x")
        assert answer.choices[0].text.startswith("from ")
    async with openai.AsyncOpenAI(base_url=base, api_key="sk-wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match="no API key") as caught:
            await client.completions.create(model="poet", prompt="x")
        assert caught.value.code == "malformed_key"
    async with openai.AsyncOpenAI(base_url=base, api_key=KEYS["small"], max_retries=0) as client:
        assert [m.id async for m in client.models.list()] == ["digits"]
        with pytest.raises(openai.PermissionDeniedError):
            await client.completions.create(model="poet", prompt="x")
        with pytest.raises(openai.RateLimitError) as limited:
            await client.completions.create(model="poet", prompt="x")
        assert limited.value.response.headers["x-ratelimit-limit-requests"] == "1"
        assert int(limited.value.response.headers["retry-after"]) <= 60
    assert sum(fake.inferences for fake in fakes.values()) == 1


async def test_tritonclient(world: World) -> None:
    router, fakes = world
    for fake in fakes.values():
        fake.fault = echo
    address = router.url.removeprefix("http://")

    def use() -> None:
        with triton.InferenceServerClient(address) as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            tensor = triton.InferInput("IN", [1, 2], "FP32")
            tensor.set_data_from_numpy(np.array([[1, 2]], dtype=np.float32))
            for headers in (bearer("acme"), {"x-api-key": KEYS["acme"]}):
                assert client.is_model_ready("digits", headers=headers)
                found = client.infer("digits", [tensor], headers=headers)
                assert found.as_numpy("OUT").tolist() == [[1.0, 2.0]]
            assert not client.is_model_ready("digits")
            with pytest.raises(InferenceServerException, match="needs an API key"):
                client.infer("digits", [tensor])
            with pytest.raises(InferenceServerException, match="may not use model 'poet'"):
                client.infer("poet", [tensor], headers=bearer("small"))

    await asyncio.to_thread(use)
