"""One call at the router, at its edges; more in test_service."""

import asyncio

import grpc
import grpc.aio
import pytest
from prometheus_client import generate_latest

from federation.relay.server import BodyLimits
from router.request.call import ProxyLimits
from tests.router.grpc.world import eventually, request, world


async def refused(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call  # type: ignore[misc]
    return error.value.code(), error.value.details() or ""


async def test_a_large_message_is_refused() -> None:
    limits = ProxyLimits(body=BodyLimits(max_bytes=1000))
    async with world("eu-1", limits=limits) as w:
        code, text = await refused(w.stub().ModelInfer(request(size=2000)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than 1000 bytes" in text
        assert w.seen() == []


async def test_a_full_router_says_so() -> None:
    async with world("eu-1", admission=1) as w:
        w.clusters["eu-1"].engine.delay_s = 0.5
        stub = w.stub()
        first = asyncio.get_running_loop().create_task(_ask(stub))
        await eventually(lambda: bool(w.seen()))
        code, _ = await refused(stub.ModelInfer(request()))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        await first
        await eventually(lambda: w.quiet)


async def _ask(stub: object) -> None:
    await stub.ModelInfer(request())  # type: ignore[attr-defined]


async def test_our_own_deadline_blames_the_cluster() -> None:
    async with world("eu-1", limits=ProxyLimits(deadline_s=0.2)) as w:
        w.clusters["eu-1"].engine.delay_s = 5
        for _ in range(3):
            code, _ = await refused(w.stub().ModelInfer(request()))
            assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        _, healthy, why = w.state.health()["eu-1"]
        assert not healthy, why


async def test_what_may_not_be_sent_twice_is_not() -> None:
    async with world("eu-1", "us-1") as w:
        for name in w.clusters:
            w.clusters[name].engine.error = (
                grpc.StatusCode.INTERNAL,
                "Stub process 'digits--v2' is not healthy",
            )
        stub = w.stub()
        code, text = await refused(
            stub.ModelInfer(request(), metadata=(("x-federation-replay", "never"),))
        )
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "never sent twice" in text
        assert len(w.seen()) == 1
        sequence = request()
        sequence.parameters["sequence_id"].int64_param = 7
        _, text = await refused(stub.ModelInfer(sequence))
        assert "belongs to a sequence" in text
        assert len(w.seen()) == 2


async def test_calls_are_counted() -> None:
    async with world("eu-1") as w:
        stub = w.stub()
        await stub.ModelInfer(request())
        await refused(stub.ModelInfer(request("nope")))
        await eventually(lambda: w.quiet)
        page = generate_latest(w.service.shared.metrics.registry).decode()
        assert (
            'fed_router_requests_total{cluster="eu-1",code_class="2xx",model="digits",region="eu"} '
            "1.0" in page
        )
        assert 'code_class="4xx"' in page
        assert 'fed_router_attempts_total{reason="answered"} 1.0' in page
        assert "fed_router_grpc_connections 1.0" in page
        assert w.state.requests_total == 2


async def test_a_private_model_stays_where_it_may() -> None:
    async with world("us-1", "eu-1") as w:
        stub = w.stub()
        for _ in range(10):
            answer = await stub.ModelInfer(request("private"))
            assert answer.parameters["by"].string_param == "eu-1"
        await w.clusters["eu-1"].engine.stop()
        code, _ = await refused(stub.ModelInfer(request("private")))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert w.clusters["us-1"].engine.seen == []
