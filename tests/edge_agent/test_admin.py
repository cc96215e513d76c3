"""What operators read of an agent."""

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from prometheus_client import CollectorRegistry

from edge_agent.admin import Admin, Parts
from edge_agent.artifacts import Artifacts
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.board import Board
from edge_agent.identity import IdentityFiles
from edge_agent.link import Hello, Link
from edge_agent.policy.events import Task
from edge_agent.policy.session import Session, Welcomed
from edge_agent.worker import Worker
from federation.contract.types import EngineKind, EngineStatus, ObservedVersion, VersionState
from federation.runtime.clock import ManualClock

READY = EngineStatus(kind=EngineKind.TRITON, version="2.51", ready=True)
Client = TestClient[Request, Application]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    board = Board(EngineKind.TRITON)
    artifacts = Artifacts(tmp_path, url="http://127.0.0.1:1", credential=lambda: "")
    worker = Worker(
        backend=FakeBackend(FakeEngine()),
        artifacts=artifacts,
        in_flight=lambda _m, _v: 0,
        emit=lambda _event: None,
    )
    link = Link(
        Hello(control_plane="127.0.0.1:1", cluster="c", url="", engine=EngineKind.TRITON),
        session=Session(dice=random.Random(1)),
        identity=IdentityFiles(tmp_path, join_token_file=None),
        observe=lambda: ((), board.observed(lambda _m, _v: 0)),
        on_assignment=lambda _assignment, _fresh: None,
        clock=ManualClock(),
    )
    return Parts(board=board, link=link, worker=worker, artifacts=artifacts, restarts={"link": 2})


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
        "fed_agent_engine_ready 0.0",
        'fed_agent_versions{state="failed"} 1.0',
        'fed_agent_versions{state="warmed"} 0.0',
    ):
        assert line in lines
