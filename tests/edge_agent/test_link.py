"""The link against a real gRPC server."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc.aio
import pytest

from edge_agent.identity import IdentityFiles
from edge_agent.link import Hello, Link
from edge_agent.policy.session import LinkPatience, LinkState, Session
from federation.contract.errors import AlreadyExists, Conflict, FederationError, Unauthenticated
from federation.contract.types import (
    Assignment,
    Device,
    EngineKind,
    EngineStatus,
    Observed,
    ObservedVersion,
    VersionState,
)
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.runtime.backoff import Backoff
from federation.runtime.channel import abort_with, serve
from federation.runtime.clock import SystemClock

QUICK = LinkPatience(
    broken=Backoff(first_s=0.05, cap_s=0.1), refused=Backoff(first_s=0.1, cap_s=0.2)
)
Context = grpc.aio.ServicerContext[pb.AgentMessage, pb.AgentInstruction]


class ControlPlane(rpc.AgentServiceServicer):
    """A control plane that welcomes everyone with a secret it knows."""

    def __init__(self) -> None:
        self.secrets = {"token": "credential", "credential": ""}  # secret -> credential to give
        self.refusal: FederationError = Unauthenticated("unknown token.", hint="Register it.")
        self.first = pb.AgentInstruction()
        self.shown: list[str] = []
        self.hellos: list[pb.AgentHello] = []
        self.reports: list[pb.Report] = []
        self.epoch = 0
        self.outbox: asyncio.Queue[pb.AgentInstruction | FederationError] = asyncio.Queue()
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = serve()
        rpc.add_AgentServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server:
            await self._server.stop(0)

    async def Connect(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.AgentMessage], context: Context
    ) -> None:
        metadata = dict(context.invocation_metadata() or ())
        secret = str(metadata["authorization"]).removeprefix("Bearer ")
        self.shown.append(secret)
        if secret not in self.secrets:
            await abort_with(context, self.refusal)
        async for message in request_iterator:
            self.hellos.append(message.hello)
            break
        self.epoch += 1
        welcome = pb.Welcome(
            epoch=self.epoch, report_interval_ms=200, credential=self.secrets[secret]
        )
        if self.first.WhichOneof("body"):
            await context.write(self.first)
        await context.write(pb.AgentInstruction(welcome=welcome))
        reading = asyncio.get_running_loop().create_task(self._read(request_iterator))
        try:
            while True:
                instruction = await self.outbox.get()
                if isinstance(instruction, FederationError):
                    await abort_with(context, instruction)
                else:
                    await context.write(instruction)
        finally:
            reading.cancel()

    async def _read(self, messages: AsyncIterator[pb.AgentMessage]) -> None:
        async for message in messages:
            self.reports.append(message.report)


class Agent:
    """A link with what surrounds it."""

    def __init__(self, port: int, folder: Path) -> None:
        (folder / "token").write_text("token\n")
        self.identity = IdentityFiles(folder / "state", join_token_file=folder / "token")
        self.assignments: list[tuple[Assignment, bool]] = []
        self.versions: tuple[ObservedVersion, ...] = ()
        self.link = Link(
            Hello(
                control_plane=f"127.0.0.1:{port}",
                cluster="c",
                url="http://gateway:1",
                engine=EngineKind.TRITON,
                software_version="9",
            ),
            session=Session(dice=random.Random(1), patience=QUICK),
            identity=self.identity,
            observe=self.observe,
            on_assignment=lambda assignment, fresh: self.assignments.append((assignment, fresh)),
            clock=SystemClock(),
        )
        self.task: asyncio.Task[None] | None = None

    def observe(self) -> tuple[tuple[Device, ...], Observed]:
        engine = EngineStatus(kind=EngineKind.TRITON, ready=True)
        device = Device(id="g", vendor="v", product="p", memory_mib=1)
        return (device,), Observed(observed_generation=1, engine=engine, versions=self.versions)


@pytest.fixture
async def plane() -> AsyncIterator[ControlPlane]:
    plane = ControlPlane()
    await plane.start()
    yield plane
    await plane.stop()


@pytest.fixture
async def agent(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Agent]:
    agent = Agent(plane.port, tmp_path)
    agent.task = asyncio.get_running_loop().create_task(agent.link.run())
    yield agent
    assert not agent.task.done()
    agent.task.cancel()
    await asyncio.gather(agent.task, return_exceptions=True)


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_it_joins_with_the_token_and_comes_back_with_the_credential(
    plane: ControlPlane, agent: Agent
) -> None:
    await until(lambda: plane.reports)
    assert agent.link.joined
    assert agent.identity.credential == "credential"
    hello = plane.hellos[0]
    assert (hello.cluster, hello.url) == ("c", "http://gateway:1")
    assert hello.engine == pb.ENGINE_KIND_TRITON
    assert (plane.reports[0].epoch, plane.reports[0].sequence) == (1, 1)
    await plane.stop()
    await until(lambda: not agent.link.joined)
    await plane.start()
    await until(lambda: len(plane.hellos) == 2)
    assert plane.shown == ["token", "credential"]
    assert plane.hellos[1].instance == hello.instance
    await until(lambda: plane.reports[-1].epoch == 2)


async def test_reports_flow_by_interval_and_at_once_on_change(
    plane: ControlPlane, agent: Agent
) -> None:
    await until(lambda: len(plane.reports) >= 3)
    sequences = [report.sequence for report in plane.reports]
    assert sequences == list(range(1, len(sequences) + 1))
    assert plane.reports[0].capacity.devices[0].id == "g"
    warm = ObservedVersion(model="m", version=1, digest="d", state=VersionState.WARMED)
    agent.versions = (warm,)
    agent.link.notify()
    await until(lambda: plane.reports[-1].observed.versions)


async def test_a_notice_without_a_change_sends_nothing(plane: ControlPlane, agent: Agent) -> None:
    await until(lambda: plane.reports)
    started, before = asyncio.get_running_loop().time(), len(plane.reports)
    while asyncio.get_running_loop().time() - started < 0.5:
        agent.link.notify()
        await asyncio.sleep(0.001)
    assert len(plane.reports) - before <= 4


async def test_assignments_are_handed_on_and_the_first_is_marked(
    plane: ControlPlane, agent: Agent
) -> None:
    for generation in (5, 6):
        assignment = pb.Assignment(cluster="c", generation=generation)
        plane.outbox.put_nowait(pb.AgentInstruction(assignment=assignment))
        plane.outbox.put_nowait(pb.AgentInstruction())  # of a newer peer
    await until(lambda: len(agent.assignments) == 2)
    assert [(a.generation, fresh) for a, fresh in agent.assignments] == [(5, True), (6, False)]


async def test_a_refusal_is_told_once_with_its_remedy_and_tried_again(
    plane: ControlPlane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plane.secrets = {}
    plane.refusal = AlreadyExists("cluster 'c' has already joined.", hint="Use --rejoin.")
    agent = Agent(plane.port, tmp_path)
    task = asyncio.get_running_loop().create_task(agent.link.run())
    await until(lambda: len(plane.shown) >= 3)
    await until(lambda: agent.link.session.state is LinkState.REFUSED)
    assert agent.link.session.reason == "cluster 'c' has already joined. Use --rejoin."
    assert len([r for r in caplog.records if "Use --rejoin" in r.getMessage()]) == 1
    plane.secrets = {"token": "credential"}
    await until(lambda: agent.link.joined)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_revoked_credential_gives_way_to_the_token(
    plane: ControlPlane, tmp_path: Path
) -> None:
    agent = Agent(plane.port, tmp_path)
    agent.identity.keep_credential("revoked")
    task = asyncio.get_running_loop().create_task(agent.link.run())
    await until(lambda: agent.link.joined)
    assert plane.shown == ["revoked", "token"]
    assert agent.identity.credential == "credential"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_agent_that_was_replaced_does_not_fight_back_at_once(
    plane: ControlPlane, agent: Agent
) -> None:
    await until(lambda: agent.link.joined)
    plane.outbox.put_nowait(Conflict("a newer agent took over."))
    await until(lambda: agent.link.session.state is LinkState.REFUSED)
    assert agent.link.session.reason == "a newer agent took over."
    await until(lambda: agent.link.joined)


async def test_a_peer_that_does_not_welcome_is_refused(plane: ControlPlane, tmp_path: Path) -> None:
    plane.first = pb.AgentInstruction(assignment=pb.Assignment(cluster="c"))
    agent = Agent(plane.port, tmp_path)
    task = asyncio.get_running_loop().create_task(agent.link.run())
    await until(lambda: "no control plane of ours" in agent.link.session.reason)
    assert agent.assignments == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_nobody_there_is_only_a_wait(tmp_path: Path, unused_tcp_port: int) -> None:
    agent = Agent(unused_tcp_port, tmp_path)
    task = asyncio.get_running_loop().create_task(agent.link.run())
    await until(lambda: agent.link.session.reason == "the control plane does not answer.")
    assert agent.link.session.state is not LinkState.JOINED
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_token_that_cannot_be_read_does_not_end_it(tmp_path: Path) -> None:
    agent = Agent(1, tmp_path)
    (tmp_path / "token").unlink()
    (tmp_path / "token").mkdir()
    task = asyncio.get_running_loop().create_task(agent.link.run())
    await until(lambda: "cannot read" in agent.link.session.reason)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
