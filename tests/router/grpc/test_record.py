"""What is left of a call at its end: nothing, and a count."""

import grpc
import pytest

from router.call import ProxyLimits
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
