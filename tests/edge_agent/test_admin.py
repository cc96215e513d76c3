"""What operators read of an agent."""

import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from prometheus_client import CollectorRegistry

from edge_agent.admin import Admin, Parts
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.board import Board
from edge_agent.dialling import Hello
from edge_agent.identity import Identity
from edge_agent.link import Link, Sources, Told
from edge_agent.policy.events import Task
from edge_agent.policy.session import Session, Welcomed
from edge_agent.sync.build import make_sync_side
from edge_agent.worker import Worker
from federation.contract.capacity import Capacity
from federation.contract.spiffe import PeerRole
from federation.contract.types import EngineKind, EngineStatus, ObservedVersion, VersionState
from federation.relay.guard import PeerGuard
from federation.runtime.clock import ManualClock
from federation.trust.calls import Contact
from federation.trust.enrolment import Enrolment
from federation.trust.renewal import Membership
from tests.pki import credentials_for, make_authority

READY = EngineStatus(kind=EngineKind.TRITON, version="2.51", ready=True)
Client = TestClient[Request, Application]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    board = Board(EngineKind.TRITON)
    clock = ManualClock(datetime.now(UTC))
    credentials = credentials_for(make_authority(tmp_path), PeerRole.CLUSTER, "c")
    contact = Contact(url="https://127.0.0.1:1")
    enrolment = Enrolment(credentials, contact, role=PeerRole.CLUSTER, name="c")
    membership = Membership(enrolment, clock=clock, dice=random.Random(1))
    identity = Identity(credentials=credentials, membership=membership)
    sync = make_sync_side(
        tmp_path,
        cluster="c",
        url="https://127.0.0.1:1",
        credentials=credentials,
        clock=clock,
        dice=random.Random(1),
    )
    worker = Worker(
        backend=FakeBackend(FakeEngine()),
        syncer=sync.syncer,
        in_flight=lambda _m, _v: 0,
        emit=lambda _event: None,
    )
    link = Link(
        Hello(control_plane="127.0.0.1:1", cluster="c", url="", engine=EngineKind.TRITON),
        session=Session(dice=random.Random(1)),
        identity=identity,
        sources=Sources(observe=lambda: (Capacity(), board.observed(lambda _m, _v: 0))),
        told=Told(assignment=lambda _assignment, _fresh: None),
        clock=clock,
    )
    return Parts(
        board=board,
        link=link,
        worker=worker,
        syncer=sync.syncer,
        identity=identity,
        guard=PeerGuard(credentials, PeerRole.ROUTER, clock),
        clock=clock,
        restarts={"link": 2},
    )


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[Client]:
    app = Admin(parts, CollectorRegistry()).application()
    async with TestClient(TestServer(app)) as client:
        yield client


async def ready(client: Client) -> tuple[int, str]:
    response = await client.get("/readyz")
    document = json.loads(await response.text())
    assert document["ready"] == (response.status == 200)
    return response.status, document["reason"]


async def test_ready_means_that_it_can_serve_with_or_without_a_control_plane(
    client: Client, parts: Parts
) -> None:
    status, reason = await ready(client)
    assert (status, "engine is not ready" in reason) == (503, True)
    parts.board.engine = READY
    parts.link.session.dialled()
    parts.link.session.refused("cluster 'c' has already joined. Use --rejoin.", 0.0)
    status, reason = await ready(client)
    assert (status, "Use --rejoin" in reason) == (503, True)
    parts.board.show(3, ())
    assert await ready(client) == (200, "")


async def test_an_agent_that_joined_and_has_nothing_to_do_is_ready(
    client: Client, parts: Parts
) -> None:
    parts.board.engine = READY
    parts.link.session.dialled()
    parts.link.session.welcomed(Welcomed(epoch=4, report_interval_s=1.0), 0.0)
    assert await ready(client) == (200, "")
    assert (await client.get("/healthz")).status == 200


async def test_without_an_identity_it_is_not_ready_and_says_why(
    client: Client, parts: Parts
) -> None:
    parts.board.engine = READY
    parts.board.show(3, ())
    assert await ready(client) == (200, "")
    document = json.loads(await (await client.get("/readyz")).text())
    assert document["certificate"]["identity"] == "spiffe://fed.test/cluster/c"
    leaf = parts.identity.credentials.require()[0]
    assert document["certificate"]["notAfter"] == leaf.facts.not_after.isoformat()
    name = "fed_agent_certificate_expiry_timestamp_seconds "
    lines = (await (await client.get("/metrics")).text()).splitlines()
    (line,) = [line for line in lines if line.startswith(name)]
    assert float(line.removeprefix(name)) == leaf.facts.not_after.timestamp()
    assert isinstance(parts.clock, ManualClock)
    parts.clock.advance(86400.0)
    parts.identity.membership.reason = "cannot reach the control plane."
    status, reason = await ready(client)
    assert (status, "expired" in reason, "cannot reach" in reason) == (503, True, True)
    parts.identity.credentials.leaf = None
    status, reason = await ready(client)
    assert (status, "not joined yet. cannot reach" in reason) == (503, True)
    page = await (await client.get("/metrics")).text()
    assert "fed_agent_certificate_expiry" not in page


async def test_numbers(client: Client, parts: Parts) -> None:
    failed = ObservedVersion(model="m", version=1, digest="d", state=VersionState.FAILED)
    parts.board.show(3, (failed,))
    parts.worker.done[Task.LOAD] += 2
    parts.worker.done[Task.HEAL] += 1
    parts.worker.failed[Task.WARM_UP] += 5
    lines = (await (await client.get("/metrics")).text()).splitlines()
    for line in (
        "fed_agent_loads_total 3.0",
        "fed_agent_heals_total 1.0",
        'fed_agent_failures_total{task="warm-up"} 5.0',
        'fed_agent_task_restarts_total{task="link"} 2.0',
        "fed_agent_link_connected 0.0",
        "fed_agent_generation 3.0",
        "fed_agent_certificate_renewals_total 0.0",
        "fed_agent_peers_refused_total 0.0",
        "fed_agent_peers_cut_total 0.0",
        "fed_agent_engine_ready 0.0",
        'fed_agent_versions{state="failed"} 1.0',
        'fed_agent_versions{state="warmed"} 0.0',
    ):
        assert line in lines
