"""gRPC through router and gateway: an unchanged client, engines that misbehave, what runs."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest
from tritonclient.grpc import service_pb2 as pb

from edge_agent.gateway.relay import Refusal
from federation.contract.errors import Unavailable
from federation.contract.types import Snapshot
from router.policy import table as tables
from router.request.call import HoldingLimits, ProxyLimits
from tests.hostile.corpus.messages import NAMING_TWICE, SWALLOWING
from tests.router.fakes import make_snapshot
from tests.router.grpc.world import INFER, World, eventually, request, world
from tests.router.request.test_holding import asleep


async def test_a_call_runs_what_was_resolved() -> None:
    async with world("eu-1") as w:
        call = w.stub().ModelInfer(request(), metadata=(("x-request-id", "mine"),))
        answer = await call
        assert (answer.model_name, answer.model_version, answer.id) == ("digits", "2", "7")
        assert answer.raw_output_contents == [bytes(8)]
        assert w.seen()[0].model_name == "digits--v2"
        told = dict(await call.initial_metadata())
        assert told["x-request-id"] == "mine"
        assert (told["x-fed-cluster"], told["x-fed-region"]) == ("eu-1", "eu")
        assert (told["x-fed-model-version"], told["x-fed-attempts"]) == ("2", "1")
        assert "x-fed-load" not in told
        assert "x-fed-load" not in dict(await call.trailing_metadata())
        await eventually(lambda: w.quiet)


@pytest.mark.parametrize(
    ("name", "version", "runs"),
    [("digits@champion", "", 1), ("digits", "1", 1), ("digits@2", "", 2)],
)
async def test_references_are_resolved(name: str, version: str, runs: int) -> None:
    async with world("eu-1") as w:
        answer = await w.stub().ModelInfer(request(name, version))
        assert (answer.model_name, answer.model_version) == ("digits", str(runs))
        assert w.seen()[0].model_name == f"digits--v{runs}"


async def test_own_answers() -> None:
    async with world("eu-1", "us-1") as w:
        stub = w.stub()
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
        about = await stub.ServerMetadata(pb.ServerMetadataRequest())
        assert about.name == "inference-federation"
        assert (await stub.ModelReady(pb.ModelReadyRequest(name="digits"))).ready
        assert not (await stub.ModelReady(pb.ModelReadyRequest(name="nothing"))).ready
        found = await stub.ModelMetadata(pb.ModelMetadataRequest(name="digits"))
        assert (found.name, list(found.versions), found.platform) == ("digits", ["1", "2"], "fake")
        health: Any = w.channels[0].unary_unary("/grpc.health.v1.Health/Check")
        assert await health(b"") == b"\x08\x01"


async def refused(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call  # type: ignore[misc]
    return error.value.code(), error.value.details() or ""


def sleeping(w: World) -> Snapshot:
    """Let `digits` sleep; return the snapshot in which it is awake again."""
    awake = make_snapshot({name: cluster.url for name, cluster in w.clusters.items()})
    w.state.swap(tables.build(asleep(awake, "digits"), w.state.reach))
    return replace(awake, version=3)


async def test_a_call_waits_until_its_model_is_awake() -> None:
    async with world("eu-1") as w:
        awake, stub = sleeping(w), w.stub()
        calls = [stub.ModelInfer(request(size=size)) for size in (8, 300_000)]
        await eventually(lambda: dict(w.state.demand()) == {"digits": 2})
        assert w.state.signals.in_flight("eu-1") == 0
        w.state.swap(tables.build(awake, w.state.reach))
        answers = [await call for call in calls]
        assert [len(a.raw_output_contents[0]) for a in answers] == [8, 300_000]
        assert not w.state.demand()
        await eventually(lambda: w.quiet)


async def test_a_call_waits_no_longer_than_it_may() -> None:
    async with world("eu-1", limits=ProxyLimits(holding=HoldingLimits(hold_s=0.1))) as w:
        sleeping(w)
        call = w.stub().ModelInfer(request())
        code, text = await refused(call)
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "Model 'digits' sleeps and was not awake after" in text
        assert ("retry-after", "5") in tuple(await call.trailing_metadata())
        code, _ = await refused(w.stub().ModelInfer(request(), timeout=0.2))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: w.quiet and not w.state.demand())


async def test_a_caller_that_waits_may_leave() -> None:
    async with world("eu-1") as w:
        awake = sleeping(w)
        call = w.stub().ModelInfer(request())
        await eventually(lambda: dict(w.state.demand()) == {"digits": 1})
        call.cancel()
        await eventually(lambda: w.quiet and not w.state.demand())
        w.state.swap(tables.build(awake, w.state.reach))
        assert w.seen() == []


async def test_where_no_more_may_wait_the_caller_is_told() -> None:
    async with world("eu-1", limits=ProxyLimits(holding=HoldingLimits(total=0))) as w:
        sleeping(w)
        code, text = await refused(w.stub().ModelInfer(request()))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "Model 'digits' sleeps and is woken now" in text
        assert dict(w.state.demand()) == {"digits": 1}


async def test_refusals() -> None:
    async with world("eu-1") as w:
        stub = w.stub()
        code, text = await refused(stub.ModelInfer(request("nope")))
        assert (code, "no model 'nope'" in text) == (grpc.StatusCode.NOT_FOUND, True)
        code, text = await refused(stub.ModelInfer(request("digits", "9")))
        assert code is grpc.StatusCode.NOT_FOUND
        code, _ = await refused(stub.ModelInfer(request("digits--v2")))
        assert code is grpc.StatusCode.NOT_FOUND
        code, text = await refused(stub.ModelInfer(request("")))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        for verb, message in (
            (stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="digits")),
            (stub.SystemSharedMemoryRegister, pb.SystemSharedMemoryRegisterRequest(name="x")),
            (stub.TraceSetting, pb.TraceSettingRequest()),
            (stub.ModelConfig, pb.ModelConfigRequest(name="digits")),
        ):
            code, _ = await refused(verb(message))
            assert code is grpc.StatusCode.UNIMPLEMENTED
        assert w.seen() == []


async def test_an_engine_that_is_gone_costs_no_call() -> None:
    async with world("eu-1", "us-1") as w:
        stub = w.stub()
        await w.clusters["eu-1"].engine.stop()
        answers = await asyncio.gather(*(stub.ModelInfer(request()) for _ in range(50)))
        assert {a.parameters["by"].string_param for a in answers} == {"us-1"}
        await eventually(lambda: w.quiet)


async def test_a_gateway_that_refuses_costs_no_call() -> None:
    async with world("eu-1", "us-1") as w:
        w.clusters["eu-1"].refuses.append(Refusal(Unavailable("draining"), refused="draining"))
        stub = w.stub()
        for _ in range(10):
            answer = await stub.ModelInfer(request())
            assert answer.parameters["by"].string_param == "us-1"


async def test_the_engines_error_is_passed_on_with_our_names() -> None:
    async with world("eu-1") as w:
        w.clusters["eu-1"].engine.error = (
            grpc.StatusCode.INVALID_ARGUMENT,
            "[request id: 7] unexpected shape for input of model 'digits--v2' (100 % wrong)",
        )
        code, text = await refused(w.stub().ModelInfer(request()))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert text.endswith("of model 'digits' (100 % wrong)")
        assert w.clusters["eu-1"].doubts == []


async def test_an_unloaded_model_is_doubted_and_tried_elsewhere() -> None:
    async with world("eu-1", "us-1") as w:
        for name in w.clusters:
            w.clusters[name].engine.error = (
                grpc.StatusCode.NOT_FOUND,
                "Request for unknown model: 'digits--v2' is not found",
            )
        code, text = await refused(w.stub().ModelInfer(request()))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert text.count("engine-down") == 2
        assert all(len(c.doubts) == 1 for c in w.clusters.values())


async def test_engines_without_grpc_say_so() -> None:
    async with world("eu-1", "us-1", speaks=()) as w:
        code, text = await refused(w.stub().ModelInfer(request()))
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert "speak no gRPC" in text
        assert "POST /v2/models/digits/infer" in text


async def test_engines_without_grpc_are_passed_by() -> None:
    async with world("eu-1", "us-1", speaks=("us-1",)) as w:
        stub = w.stub()
        for _ in range(10):
            assert (await stub.ModelInfer(request())).parameters["by"].string_param == "us-1"


async def test_a_deadline_is_kept_and_told() -> None:
    async with world("eu-1") as w:
        engine = w.clusters["eu-1"].engine
        engine.delay_s = 30
        code, _ = await refused(w.stub().ModelInfer(request(), timeout=0.3))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(engine.cancelled.wait(), 10)
        await eventually(lambda: w.quiet)


async def test_a_cancelled_call_stops_the_engine() -> None:
    async with world("eu-1") as w:
        engine = w.clusters["eu-1"].engine
        engine.delay_s = 30
        call = w.stub().ModelInfer(request())
        waiting = asyncio.get_running_loop().create_task(_quietly(call))
        await eventually(lambda: bool(engine.seen))
        call.cancel()
        await asyncio.wait_for(engine.cancelled.wait(), 10)
        await waiting
        await eventually(lambda: w.quiet)


async def _quietly(call: object) -> None:
    try:
        await call  # type: ignore[misc]
    except asyncio.CancelledError:
        return


async def test_streams() -> None:
    async with world("eu-1") as w:
        call = w.stub().ModelStreamInfer()
        for _ in range(3):
            await call.write(request())
            numbers = []
            for _ in range(3):
                answer = (await call.read()).infer_response
                assert (answer.model_name, answer.model_version) == ("digits", "2")
                numbers.append(answer.parameters["number"].int64_param)
            assert numbers == [0, 1, 2]
        assert {r.model_name for r in w.seen()} == {"digits--v2"}
        await call.write(request("poet"))
        with pytest.raises(grpc.aio.AioRpcError, match="names another"):
            await call.read()
        await eventually(lambda: w.quiet)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("size", [10, 300_000])
async def test_compressed_requests(compression: grpc.Compression, size: int) -> None:
    async with world("eu-1") as w:
        answer = await w.stub().ModelInfer(request(size=size), compression=compression)
        assert len(answer.raw_output_contents[0]) == size
        assert w.seen()[0].model_name == "digits--v2"


@pytest.mark.parametrize("megabytes", [1, 16])
async def test_large_messages(megabytes: int) -> None:
    async with world("eu-1") as w:
        answer = await w.stub().ModelInfer(request(size=megabytes << 20))
        assert len(answer.raw_output_contents[0]) == megabytes << 20
        await eventually(lambda: w.quiet)


@pytest.mark.parametrize("case", NAMING_TWICE)
async def test_what_was_authorised_runs(case: str) -> None:
    raw, runs = NAMING_TWICE[case]
    async with world("eu-1") as w:
        w.stub()
        infer: Any = w.channels[0].unary_unary(INFER)
        with contextlib.suppress(grpc.aio.AioRpcError):  # the engine may refuse it as a whole
            await infer(raw)
        assert {r.model_name for r in w.seen()} <= {runs}
        assert w.seen() or case == "an over-long length"


@pytest.mark.parametrize("case", SWALLOWING)
async def test_what_would_swallow_the_name_runs_nothing(case: str) -> None:
    async with world("eu-1") as w:
        w.stub()
        infer: Any = w.channels[0].unary_unary(INFER)
        code, _ = await refused(infer(SWALLOWING[case]))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert w.seen() == []
