"""The gateway's gRPC asked directly, as a router asks it. More in tests/router/grpc."""

from typing import Any

import grpc
import grpc.aio
import pytest

from tests.router.grpc.world import INFER, Cluster, cluster, eventually, request

NAMED = (("x-fed-model", "digits"), ("x-fed-version", "2"))


def channel(one: Cluster) -> grpc.aio.Channel:
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(one.url.removeprefix("http://"), options=options)


async def test_it_says_how_busy_it_is_and_names_nothing_of_its_own() -> None:
    async with cluster("eu-1") as one, channel(one) as way:
        infer: Any = way.unary_unary(INFER)
        call = infer(request().SerializeToString(), metadata=NAMED)
        assert b"digits--v2" in await call  # replaced by what is appended
        assert dict(await call.initial_metadata())["x-fed-load"] == "1"
        await eventually(lambda: not one.flights.counts())
        assert "GrpcService" in repr(one.gateway)


async def test_a_call_without_a_model_is_refused() -> None:
    async with cluster("eu-1") as one, channel(one) as way:
        infer: Any = way.unary_unary(INFER)
        for metadata in ((), NAMED[:1], (NAMED[0], ("x-fed-version", "x"))):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await infer(request().SerializeToString(), metadata=metadata)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert one.engine.seen == []


async def test_methods_that_change_the_engine_are_not_there() -> None:
    async with cluster("eu-1") as one, channel(one) as way:
        for name in ("RepositoryModelLoad", "SystemSharedMemoryRegister", "ModelConfig"):
            call: Any = way.unary_unary(f"/inference.GRPCInferenceService/{name}")
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call(b"", metadata=NAMED)
            assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
        live: Any = way.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert await live(b"") == b"\x08\x01"
