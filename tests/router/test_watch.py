import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc.aio
import pytest

from federation.contract import codec
from federation.contract.types import Location, Replica, Snapshot
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.runtime.channel import serve
from federation.runtime.clock import SystemClock
from router import tablefile
from router.explain import explain
from router.geo import Locator
from router.state import RouterState
from router.watch import SNAPSHOT_FILE, Uplink, Watcher
from tests.router.fakes import eventually, make_snapshot

URLS = {"eu-1": "http://h:1"}


class FakeControlPlane(rpc.RouterServiceServicer):
    """Keeps what routers say and sends what the test puts into `outbox`."""

    def __init__(self) -> None:
        self.heard: list[pb.RouterMessage] = []
        self.tokens: list[object] = []
        self.outbox: asyncio.Queue[pb.RouterInstruction] = asyncio.Queue()

    def told(self, kind: str) -> list[pb.RouterMessage]:
        return [m for m in self.heard if m.WhichOneof("body") == kind]

    def send(self, snapshot: Snapshot) -> None:
        self.outbox.put_nowait(pb.RouterInstruction(snapshot=codec.snapshot_to_proto(snapshot)))

    async def Watch(  # type: ignore[override]
        self,
        request_iterator: AsyncIterator[pb.RouterMessage],
        context: "grpc.aio.ServicerContext[pb.RouterMessage, pb.RouterInstruction]",
    ) -> None:
        self.tokens.append(dict(context.invocation_metadata() or ()).get("authorization"))
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(context))
            async for message in request_iterator:
                self.heard.append(message)
            sending.cancel()

    async def _send(
        self, context: "grpc.aio.ServicerContext[pb.RouterMessage, pb.RouterInstruction]"
    ) -> None:
        while True:
            await context.write(await self.outbox.get())


@asynccontextmanager
async def control_plane(port: int = 0) -> AsyncIterator[tuple[FakeControlPlane, int]]:
    fake, server = FakeControlPlane(), serve()
    rpc.add_RouterServiceServicer_to_server(fake, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield fake, bound
    finally:
        await server.stop(0)


def make_watcher(port: int, state_dir: Path) -> tuple[RouterState, Watcher, Locator]:
    state = RouterState(
        name="r1",
        clock=SystemClock(),
        dice=random.Random(0),
        location=Location(latitude=1.0, longitude=2.0),
    )
    uplink = Uplink(
        address=f"127.0.0.1:{port}",
        token="secret",
        url="http://127.0.0.1:7400",
        state_dir=state_dir,
        status_interval_s=0.05,
    )
    locator = Locator()
    return (
        state,
        Watcher(state=state, explain=partial(explain, state, locator), uplink=uplink),
        locator,
    )


@asynccontextmanager
async def watching(port: int, state_dir: Path) -> AsyncIterator[RouterState]:
    state, watcher, locator = make_watcher(port, state_dir)
    watcher.load_from_disk()
    task = asyncio.get_running_loop().create_task(watcher.run())
    try:
        yield state
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        locator.close()


def held(state: RouterState) -> int:
    return state.table.version if state.table else 0


async def test_it_says_hello_applies_and_keeps_what_it_gets(tmp_path: Path) -> None:
    async with control_plane() as (fake, port), watching(port, tmp_path) as state:
        await eventually(lambda: bool(fake.told("status")))
        hello = fake.heard[0].hello
        assert (hello.name, hello.url, hello.snapshot_version) == ("r1", "http://127.0.0.1:7400", 0)
        assert hello.location.longitude == 2.0
        assert fake.tokens == ["Bearer secret"]
        fake.send(make_snapshot(URLS, version=5))
        await eventually(lambda: bool(fake.told("ack")))
        assert fake.told("ack")[0].ack.version == held(state) == 5
        assert tablefile.load(tmp_path / SNAPSHOT_FILE) == make_snapshot(URLS, version=5)
        state.signals.probed("eu-1", 30.0, "", 0.0)
        state.requests_total, state.errors_total = 7, 1
        await eventually(lambda: fake.told("status")[-1].status.requests_total == 7)
        status = fake.told("status")[-1].status
        assert status.errors_total == 1
        assert [(c.cluster, c.rtt_ms, c.healthy) for c in status.clusters] == [("eu-1", 30.0, True)]


@pytest.mark.parametrize("kind", ["older", "inconsistent"])
async def test_a_bad_snapshot_is_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    bad = make_snapshot(URLS, version=4)
    if kind == "inconsistent":
        lost = Replica(model="digits", version=1, cluster="nowhere")
        bad = Snapshot(version=6, models=bad.models, endpoints=bad.endpoints, replicas=(lost,))
    async with control_plane() as (fake, port), watching(port, tmp_path) as state:
        fake.send(make_snapshot(URLS, version=5))
        fake.send(bad)
        await eventually(lambda: bool(fake.told("nack")))
        nack = fake.told("nack")[0].nack
        assert nack.version == bad.version
        assert ("older than 5" if kind == "older" else "unknown cluster 'nowhere'") in nack.reason
        assert held(state) == 5
        kept = tablefile.load(tmp_path / SNAPSHOT_FILE)
        assert kept is not None
        assert kept.version == 5


async def test_it_answers_questions_and_ignores_what_it_does_not_know(tmp_path: Path) -> None:
    async with control_plane() as (fake, port), watching(port, tmp_path):
        fake.outbox.put_nowait(pb.RouterInstruction())
        fake.send(make_snapshot(URLS, version=1))
        for id_, model in (("1", "digits"), ("2", "digit")):
            question = pb.ExplainRequest(id=id_, model=model, client_address="133.11.0.1")
            fake.outbox.put_nowait(pb.RouterInstruction(explain=question))
        await eventually(lambda: len(fake.told("explanation")) == 2)
        good, bad = (m.explanation for m in fake.told("explanation"))
        assert json.loads(good.document_json)["chosen"] == "eu-1"
        assert (good.id, bad.id, bad.document_json) == ("1", "2", "")
        assert "Did you mean 'digits'?" in bad.error


async def test_it_serves_from_disk_and_comes_back_to_a_control_plane(tmp_path: Path) -> None:
    async with control_plane() as (fake, port), watching(port, tmp_path):
        fake.send(make_snapshot(URLS, version=5))
        await eventually(lambda: bool(fake.told("ack")))
    async with watching(port, tmp_path) as state:
        assert held(state) == 5
        await asyncio.sleep(0.3)
        async with control_plane(port) as (fake, _):
            await eventually(lambda: bool(fake.heard), within_s=10)
            assert fake.heard[0].hello.snapshot_version == 5
            fake.send(make_snapshot(URLS, version=6))
            await eventually(lambda: held(state) == 6)


async def test_a_broken_copy_on_disk_is_not_used(tmp_path: Path) -> None:
    (tmp_path / SNAPSHOT_FILE).write_text("{")
    state, watcher, locator = make_watcher(1, tmp_path)
    assert watcher.load_from_disk() is False
    assert state.table is None
    locator.close()
