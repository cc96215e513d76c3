"""Calls like others before them: they leave the same behind as the first one did."""

import grpc
import pytest
from prometheus_client import generate_latest

from federation.relay.h2.heads import AnswerHead
from router.grpc.quick import QuickCall
from tests.router.grpc.world import eventually, request, world


async def test_every_call_is_counted_and_remembered_and_gives_all_back() -> None:
    async with world("eu-1", "us-1") as w:
        stub, ids = w.stub(), [f"call-{number}" for number in range(12)]
        for name in ids:
            call = stub.ModelInfer(request(), metadata=(("x-request-id", name),))
            assert (await call).model_version == "2"
            told = dict(await call.initial_metadata())
            assert (told["x-request-id"], told["x-fed-attempts"]) == (name, "1")
            assert told["x-fed-cluster"] in ("eu-1", "us-1")
        await eventually(lambda: w.quiet)
        assert w.admission.in_flight == w.admission.kept_bytes == 0
        assert w.state.requests_total == len(ids)
        assert w.state.budget.requests == len(ids)
        page = generate_latest(w.service.shared.metrics.registry).decode()
        assert 'fed_router_attempts_total{reason="answered"} 12.0' in page
        for name in ids:
            (record,) = w.state.records.of(name)
            assert (record.status, record.failed) == (200, ())
            assert record.chosen is not None
            assert record.resolved is not None


async def test_the_second_call_goes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    short: list[bool] = []
    answered = QuickCall.answered

    def watched(call: QuickCall, answer: AnswerHead) -> bytes | None:
        told = answered(call, answer)
        short.append(told is not None)
        return told

    monkeypatch.setattr(QuickCall, "answered", watched)
    async with world("eu-1") as w:
        stub = w.stub()
        for _ in range(5):
            await stub.ModelInfer(request())
        assert short[-4:] == [True] * 4


async def test_one_whose_cluster_fails_is_sent_to_another() -> None:
    async with world("eu-1", "us-1") as w:
        stub = w.stub()
        for _ in range(10):
            await stub.ModelInfer(request())
        await w.clusters["eu-1"].engine.stop()
        for _ in range(10):
            answer = await stub.ModelInfer(request())
            assert answer.parameters["by"].string_param == "us-1"
        await eventually(lambda: w.quiet)
        assert w.admission.in_flight == w.admission.kept_bytes == 0


async def test_a_full_router_refuses_it_as_it_refuses_others() -> None:
    async with world("eu-1") as w:
        stub = w.stub()
        await stub.ModelInfer(request())
        w.admission.max_concurrent = 0
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ModelInfer(request())
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        w.admission.max_concurrent = 9
        await stub.ModelInfer(request())
        await eventually(lambda: w.quiet)
        assert w.admission.in_flight == 0
