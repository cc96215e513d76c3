"""gRPC calls between two versions, over real sockets: as HTTP has it in `test_canary_traffic`."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from federation.contract.rollout import CanaryRoute, VersionCounts
from router.policy import split
from router.policy import table as tables
from tests.router.fakes import ROUTES, make_snapshot
from tests.router.grpc.world import World, eventually, request, world

STABLE, CANARY = 2, 1
CLIENTS = tuple(f"client-{i}" for i in range(30))


def roll(w: World, percent: float) -> None:
    route = CanaryRoute(rollout="ro-1", version=CANARY, weights={"us": percent})
    routes = [replace(r, canary=route) if r.name == "digits" else r for r in ROUTES]
    urls = {name: c.url for name, c in w.clusters.items()}
    snapshot = make_snapshot(urls, version=w.state.require_table().version + 1, routes=routes)
    w.state.swap(tables.build(snapshot, w.state.reach))


async def told(call: Any) -> tuple[int, str]:
    """Return the version that answered and the rollout whose canary it is."""
    head = dict(await call.initial_metadata())
    await call
    return int(head["x-fed-model-version"]), head.get("x-fed-canary", "")


def counted(w: World) -> dict[int, VersionCounts]:
    _, models = w.state.counting.report()
    return {c.version: c for each in models for c in each}


def seen(w: World) -> Counter[int]:
    return Counter(int(r.model_name.rpartition("--v")[2]) for r in w.seen())


async def test_calls_are_split_by_session_and_pins_are_honoured() -> None:
    async with world("us-1") as w:
        roll(w, 40.0)
        stub = w.stub()
        for _ in range(2):
            calls = [
                told(stub.ModelInfer(request(), metadata=(("x-fed-session", c),))) for c in CLIENTS
            ]
            for client, (version, rollout) in zip(
                CLIENTS, await asyncio.gather(*calls), strict=True
            ):
                expected = CANARY if split.standing("ro-1", client)[0] < 40 else STABLE
                assert (version, rollout) == (expected, "ro-1" if version == CANARY else "")
        for version in (STABLE, CANARY):
            pinned = stub.ModelInfer(
                request(version=str(version)), metadata=(("x-fed-session", CLIENTS[0]),)
            )
            assert (await told(pinned))[0] == version
        await eventually(lambda: w.quiet)
        assert {v: sum(c.requests) for v, c in counted(w).items()} == seen(w)
        assert all(sum(c.latency.values()) == sum(c.requests) for c in counted(w).values())


async def test_a_sequence_stays_with_one_version() -> None:
    async with world("us-1") as w:
        roll(w, 50.0)
        stub = w.stub()
        for number in (7, 8, 9):
            versions = set()
            for _ in range(6):
                asked = request()
                asked.parameters["sequence_id"].int64_param = number
                versions.add((await told(stub.ModelInfer(asked)))[0])
            assert len(versions) == 1


async def test_calls_fail_over_to_the_stable_version_and_errors_are_the_canarys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world("us-1") as w:
        roll(w, 100.0)
        cluster = w.clusters["us-1"]
        stub = w.stub()
        cluster.engine.error = (grpc.StatusCode.INTERNAL, "it cannot")
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ModelInfer(request())
        await eventually(lambda: w.quiet)
        blamed = counted(w)[CANARY]
        assert (sum(blamed.requests), sum(blamed.errors), blamed.latency) == (1, 1, {})
        work = cluster.engine._work

        async def dying(asked: Any, context: Any) -> None:
            sick = asked.model_name.endswith(f"--v{CANARY}")
            died = (grpc.StatusCode.INTERNAL, f"Stub process {asked.model_name!r} is not healthy")
            cluster.engine.error = died if sick else None
            await work(asked, context)

        monkeypatch.setattr(cluster.engine, "_work", dying)
        assert await told(stub.ModelInfer(request())) == (STABLE, "")
        await eventually(lambda: w.quiet)
        assert sum(counted(w)[CANARY].errors) == 2
        assert {v: sum(c.requests) for v, c in counted(w).items()} == seen(w)


async def test_a_call_that_its_client_gave_up_is_no_error_and_a_missed_deadline_is() -> None:
    async with world("us-1") as w:
        roll(w, 100.0)
        w.clusters["us-1"].engine.delay_s = 30.0
        stub = w.stub()
        call = stub.ModelInfer(request())
        await eventually(lambda: len(w.seen()) == 1)
        call.cancel()
        await eventually(lambda: w.quiet)
        assert (sum(counted(w)[CANARY].requests), counted(w)[CANARY].errors) == (1, ())
        late = stub.ModelInfer(request(), metadata=(("x-fed-deadline-ms", "100"),))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await late
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: w.quiet)
        assert sum(counted(w)[CANARY].errors) == 1
