"""What the engine's end of a call means for the router."""

from typing import Any

import grpc
import grpc.aio
import pytest

from tests.edge_agent.gateway.test_grpc_service import NAMED, channel
from tests.router.grpc.world import INFER, cluster, request

CODE = grpc.StatusCode
ERRORS = {
    "its own": (CODE.INVALID_ARGUMENT, "bad shape", CODE.INVALID_ARGUMENT, {}, 0),
    "unknown": (
        CODE.NOT_FOUND,
        "Request for unknown model: 'digits--v2' is not found",
        CODE.UNAVAILABLE,
        {"x-fed-refused": "engine-down"},
        1,
    ),
    "full": (
        CODE.UNAVAILABLE,
        "Exceeds maximum queue size",
        CODE.UNAVAILABLE,
        {"x-fed-refused": "saturated"},
        0,
    ),
    "sick": (
        CODE.INTERNAL,
        "Stub process 'digits--v2' is not healthy.",
        CODE.INTERNAL,
        {"x-fed-outcome": "unknown"},
        1,
    ),
}


@pytest.mark.parametrize("case", ERRORS)
async def test_errors_of_the_engine(case: str) -> None:
    given, words, code, told, doubts = ERRORS[case]
    async with cluster("eu-1") as one, channel(one) as way:
        one.engine.error = (given, words)
        infer: Any = way.unary_unary(INFER)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await infer(request().SerializeToString(), metadata=NAMED)
        assert error.value.code() is code
        assert "digits--v2" not in (error.value.details() or "")
        trailers = dict(error.value.trailing_metadata() or ())
        trailers |= dict(error.value.initial_metadata() or ())
        assert {
            k: v for k, v in trailers.items() if k in ("x-fed-refused", "x-fed-outcome")
        } == told
        assert len(one.doubts) == doubts


async def test_an_engine_that_is_gone() -> None:
    async with cluster("eu-1") as one, channel(one) as way:
        await one.engine.stop()
        infer: Any = way.unary_unary(INFER)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await infer(request().SerializeToString(), metadata=NAMED)
        trailers = dict(error.value.trailing_metadata() or ())
        trailers |= dict(error.value.initial_metadata() or ())
        assert trailers["x-fed-refused"] == "engine-down"
        assert len(one.doubts) == 1
        assert one.flights.counts() == {}
