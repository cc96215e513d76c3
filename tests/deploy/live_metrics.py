"""The pages of metrics of all processes at work, as Prometheus would scrape them.

Input: their parts, in this process. Output: for each name of a series the labels that it
was seen with. A family that has no series yet is left out: nothing could be drawn of it.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.admin import Admin, Parts
from edge_agent.backends.base import Verb
from edge_agent.gateway.flights import Flights
from edge_agent.gateway.metrics import GatewayMetrics
from federation.bridge.admin import BridgeCollector
from federation.bridge.control_plane import ControlPlane
from federation.bridge.following import Following
from federation.bridge.reconciler import Reconciler
from federation.contract import codec
from federation.contract.capacity import Capacity, Device, DeviceUse, Pool
from federation.contract.spiffe import PeerRole
from federation.contract.sync import Disk, SyncProgress
from federation.contract.types import (
    EngineKind,
    EngineStatus,
    Observed,
    ObservedVersion,
    Report,
    VersionState,
)
from federation.contract.v1 import federation_pb2 as pb
from federation.kube.api import KubeApi
from federation.policy.rollouts.records import Phase
from federation.relay.connections import ConnectionLimits, Connections
from federation.runtime.clock import SystemClock
from router.metrics.connections import ConnectionCollector
from router.policy import table as tables
from router.policy.hedging import NotSent, Outcome
from router.state import RouterState
from router.upstream.reverse import ReversePool
from router.workers.crew import Crew
from router.workers.gathering import Gathering
from tests.fakes.control_plane import agent_hello, operator, running, stream
from tests.federation.policy.rollouts.test_next_words import RECORD, at
from tests.pki import credentials_for, make_authority
from tests.router.fakes import make_snapshot
from tests.router.metrics.test_requests import make

Series = dict[str, set[frozenset[str]]]
USE = DeviceUse(memory_mib=1000, utilization=0.5, power_w=300.0)


def series(page: str) -> Series:
    """Return the labels of each series of a page."""
    found: Series = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, set()).add(frozenset(sample.labels))
    return found


async def control_plane_page(folder: Path) -> str:
    """Return the page of a control plane to which an agent has reported."""
    async with running(folder) as plane, operator(plane) as api:
        held = await api.member("a")
        async with stream(plane, "agent", held) as agent:
            await agent.send(agent_hello("a"))
            epoch = (await agent.expect("welcome")).epoch
            await agent.send(_report(epoch))
            await agent.expect("lease_renewed")
            await api.call("GET", "/api/v1/regions", headers={"Authorization": ""})
            weighed = (replace(RECORD.waves[0], weight=5.0),)
            plane.loop.state.rollouts["m-2"] = at(Phase.BAKING, waves=weighed)
            answer = await api.call("GET", "/metrics", headers={"Authorization": ""})
            return answer.body.decode()


def _report(epoch: int) -> pb.AgentMessage:
    device = Device(id="1", vendor="nvidia", product="L40S", memory_mib=46_000, use=USE)
    pool = Pool(
        node="n",
        resource="nvidia.com/gpu",
        vendor="nvidia",
        product="L40S",
        physical=1,
        total=1,
        allocatable=1,
        free=1,
    )
    progress = SyncProgress(total_bytes=100, done_bytes=40, from_origin_bytes=40)
    version = ObservedVersion(
        model="m", version=1, digest="d", state=VersionState.PENDING, sync=progress
    )
    report = Report(
        cluster="a",
        epoch=epoch,
        sequence=1,
        capacity=Capacity(devices=(device,), pools=(pool,), waiting=1),
        observed=Observed(
            observed_generation=0,
            engine=EngineStatus(kind=EngineKind.TRITON, version="2.60", ready=True),
            versions=(version,),
        ),
        url="https://127.0.0.1:7500",
        disk=Disk(used_bytes=40, free_bytes=60),
    )
    return pb.AgentMessage(report=codec.report_to_proto(report))


@asynccontextmanager
async def router_page(folder: Path) -> AsyncIterator[str]:
    """Yield the page of a router that has served a request."""
    state, metrics = make()
    authority = make_authority(folder)
    state.credentials = credentials_for(authority, PeerRole.ROUTER, "r")
    state.swap(tables.build(make_snapshot({"eu-1": "http://h:1"}, version=4)))
    state.signals.probed("eu-1", 20.0, "", 0.0)
    metrics.requests.labels("m", "eu", "eu-1", "2xx").inc()
    metrics.duration.observe(0.1, "m")
    metrics.attempts.labels("answered").inc()
    metrics.refused.labels("no-capacity").inc()
    metrics.count_tenant("acme", "2xx", 10)
    metrics.holding.labels("m").inc()
    metrics.hold.observe(1.0, "m")
    metrics.hedges.labels(Outcome.WON).inc()
    metrics.not_hedged.labels(NotSent.BUDGET).inc()
    pool = ReversePool(state.credentials, clock=SystemClock())
    pool.lender("eu-1")
    metrics.registry.register(ConnectionCollector(Connections(ConnectionLimits()), pool))
    yield metrics.page().decode()
    await pool.close()


async def keeper_page() -> str:
    """Return what the keeper of a router's workers adds to their metrics."""
    clock, dice = SystemClock(), random.Random(1)
    crew = Crew(2, opening=lambda _: [], dice=dice)
    return (await Gathering(RouterState(name="r", clock=clock, dice=dice), crew).metrics()).decode()


def bridge_page() -> str:
    """Return the page of a bridge that has made calls for an object."""
    clock, dice = SystemClock(), random.Random(1)
    plane = ControlPlane("https://127.0.0.1:9", token_file="", ca_file="")
    reconciler = Reconciler(api=KubeApi(), control_plane=plane, clock=clock, dice=dice)
    metadata = {"name": "d", "uid": "u", "resourceVersion": "1"}
    reconciler.shelf.apply("ModelDeployment", "ADDED", {"metadata": metadata})
    reconciler.calls["kubernetes", "ok"] += 1
    following = Following(KubeApi(), "default", reconciler.shelf, clock=clock, dice=dice)
    registry = CollectorRegistry()
    registry.register(BridgeCollector(reconciler, following, {"reconciler": 0}))
    return generate_latest(registry).decode()


def agent_page(parts: Parts) -> str:
    """Return the page of an agent whose gateway has served a request."""
    registry = CollectorRegistry()
    gateway = GatewayMetrics(registry, Flights())
    gateway.doubts.labels("m").inc()
    with gateway.request(Verb.INFER) as outcome:
        outcome.version = ("m", 1)
        outcome.code = "200"
    Admin(parts, registry)
    return generate_latest(registry).decode()
