"""gRPC answers that are cut after each of their bytes: a whole answer, or a status that says that
it is none; never OK after a part, never two answers, and never a hang.

FED_TEST_CUT_STEP cuts at every so many bytes; 1 = at each.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio
import pytest

from federation.relay.h2 import upstream
from router.policy import table as tables
from tests.fakes.fault_proxy import BLACK_HOLE, PASS, Fault, FaultProxy, fault_proxy
from tests.router.fakes import forget_failures, make_snapshot
from tests.router.grpc.world import World, eventually, request, world

STEP = int(os.environ.get("FED_TEST_CUT_STEP", "7"))
PATIENCE_S = 10.0
BROKEN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}


@asynccontextmanager
async def cut_world() -> AsyncIterator[tuple[World, FaultProxy]]:
    """Two clusters; the way to the first, which is preferred, can be cut."""
    async with world("eu-1", "us-1") as w:
        there = urlsplit(w.clusters["eu-1"].url)
        async with fault_proxy(str(there.hostname), int(there.port or 0)) as proxy:
            urls = {"eu-1": f"http://127.0.0.1:{proxy.port}", "us-1": w.clusters["us-1"].url}
            w.state.swap(tables.build(make_snapshot(urls, version=2)))
            yield w, proxy


async def prepare(w: World, proxy: FaultProxy, after: int, *, politely: bool) -> None:
    """Cut the answers of a new connection after so many bytes, and forget what was seen before."""
    await proxy.become(Fault(refuse=True))
    await proxy.become(Fault(cut_after=after, politely=politely))
    signals = w.state.signals
    forget_failures(signals)
    for cluster, rtt_ms in (("eu-1", 1.0), ("us-1", 500.0)):
        signals.probed(cluster, rtt_ms, "", 0.0)
    for one in w.clusters.values():
        one.engine.seen.clear()


async def streamed(stub: Any) -> tuple[list[str], grpc.StatusCode]:
    """Ask one question on a stream; returns by whom each answer was, and how it ended."""
    by: list[str] = []
    call = stub.ModelStreamInfer(iter([request()]), timeout=PATIENCE_S)
    try:
        while (one := await call.read()) is not grpc.aio.EOF:
            by.append(one.infer_response.parameters["by"].string_param)
    except grpc.aio.AioRpcError as error:
        return by, error.code()
    return by, await call.code()


async def test_a_stream_that_is_cut_at_any_byte_ends_with_a_status() -> None:
    async with cut_world() as (w, proxy):
        stub, after, partly = w.stub(), 0, 0
        while True:
            await prepare(w, proxy, after, politely=bool(after % 2))
            by, code = await streamed(stub)
            assert len(set(by)) <= 1
            if code is grpc.StatusCode.OK:
                assert len(by) == 3, (after, by)
                if by[0] == "eu-1":
                    break
            else:
                assert code in BROKEN, (after, code)
                partly += 0 < len(by) < 3
            after += STEP
            assert after < 2000
        assert after > 200
        assert partly > 0
        await eventually(lambda: w.quiet)


async def test_a_unary_answer_that_is_cut_at_any_byte_is_one_or_a_status() -> None:
    async with cut_world() as (w, proxy):
        stub, after, codes = w.stub(), 0, set()
        while True:
            await prepare(w, proxy, after, politely=bool(after % 2))
            try:
                answer = await stub.ModelInfer(request(), timeout=PATIENCE_S)
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
            else:
                codes.add(grpc.StatusCode.OK)
                if answer.parameters["by"].string_param == "eu-1":
                    break
                assert len(w.clusters["us-1"].engine.seen) == 1
            after += STEP
            assert after < 2000
        assert after > 100
        assert codes <= {grpc.StatusCode.OK, *BROKEN}
        await eventually(lambda: w.quiet)
        await asyncio.sleep(0)


@pytest.mark.parametrize("heals", [False, True])
async def test_a_stream_whose_cluster_vanishes_ends_with_a_status_unless_it_goes_on(
    heals: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stopped answering probes is asked for a sign of life on the connection itself: a stream
    without questions is silent, too."""
    monkeypatch.setattr(upstream, "SIGN_OF_LIFE_S", 0.3)
    async with cut_world() as (w, proxy):
        await prepare(w, proxy, 1 << 20, politely=False)
        call = w.stub().ModelStreamInfer(timeout=PATIENCE_S)
        await call.write(request())
        for _ in range(3):
            answer = await call.read()
            assert answer.infer_response.parameters["by"].string_param == "eu-1"
        await proxy.become(BLACK_HOLE)
        assert w.service.give_up("eu-1") == 0  # nothing waits for a first byte
        if heals:
            await proxy.become(PASS)
            await asyncio.sleep(0.6)
            await call.write(request())
            assert (await call.read()).infer_response.parameters["by"].string_param == "eu-1"
            call.cancel()
        else:
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await call.read()
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            assert len(w.seen()) == 1
            await proxy.become(PASS)  # the gateway hears of it
        await eventually(lambda: w.quiet)
