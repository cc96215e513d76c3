"""What is left of a call at its end: nothing, and a count."""

import grpc
import pytest

from router.request.call import ProxyLimits
from tests.router.grpc.world import eventually, request, world


@pytest.mark.parametrize("known", [False, True])
async def test_everything_is_given_back_and_counted(known: bool) -> None:
    async with world("eu-1", limits=ProxyLimits(deadline_s=5)) as w:
        stub = w.stub()
        if known:
            await stub.ModelInfer(request())
        before = w.state.requests_total
        await stub.ModelInfer(request())
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ModelInfer(request("nope"))
        w.clusters["eu-1"].engine.delay_s = 30
        call = stub.ModelInfer(request())
        await eventually(lambda: not w.quiet)
        call.cancel()
        await eventually(lambda: w.quiet)
        assert w.state.requests_total - before == 3
        assert w.quotas.in_flight("anonymous") == 0


async def test_a_call_is_remembered_by_its_id() -> None:
    async with world("eu-1") as w:
        stub = w.stub()
        hops = ("x-forwarded-for", "203.0.113.7")
        for _ in range(2):  # in full, and as the last one like it
            await stub.ModelInfer(request(), metadata=[("x-request-id", "call-1"), hops])
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ModelInfer(request("nope"), metadata=[("x-request-id", "call-2")])
        await eventually(lambda: w.quiet)
        told = w.state.records.tell("call-1", "r1", w.state.clock)
        records = told["records"]
        assert isinstance(records, list)
        assert len(records) == 2
        for record in records:
            assert (record["chosen"], record["reason"], record["status"]) == ("eu-1", "only", 200)
            assert (record["model"], record["tenant"]) == ("digits", "anonymous")
            assert record["forwarded_for"] == ("203.0.113.7",)
            assert [score["cluster"] for score in record["scores"]] == ["eu-1"]
        refused = w.state.records.tell("call-2", "r1", w.state.clock)["records"]
        assert isinstance(refused, list)
        assert (refused[0]["chosen"], refused[0]["status"]) == (None, 404)
