"""A control plane that speaks to agents over real mutual TLS, and a link."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import grpc.aio

from edge_agent.dialling import Hello
from edge_agent.identity import Identity
from edge_agent.link import Link, Sources, Told
from edge_agent.policy.session import LinkPatience, Session
from federation.contract.capacity import Capacity, Device
from federation.contract.errors import (
    Conflict,
    FederationError,
)
from federation.contract.spiffe import PeerRole
from federation.contract.sync import Disk, SyncPeer, SyncSpec
from federation.contract.trust import RouterAddress
from federation.contract.types import (
    Assignment,
    Connectivity,
    EngineKind,
    EngineStatus,
    Observed,
    ObservedVersion,
)
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.identity.authority import Authority
from federation.runtime.backoff import Backoff
from federation.runtime.channel import abort_with, add_port, serve
from federation.runtime.clock import SystemClock
from federation.trust.calls import Contact
from federation.trust.credentials import Credentials
from federation.trust.enrolment import Enrolment
from federation.trust.peers import Peer, peer_from_grpc
from federation.trust.renewal import Membership
from tests.pki import credentials_for

QUICK = LinkPatience(
    broken=Backoff(first_s=0.05, cap_s=0.1), refused=Backoff(first_s=0.1, cap_s=0.2)
)
Context = grpc.aio.ServicerContext[pb.AgentMessage, pb.AgentInstruction]


class ControlPlane(rpc.AgentServiceServicer):
    """A control plane that welcomes every cluster that shows a certificate; newest stream wins."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.credentials = credentials_for(authority, PeerRole.CONTROL_PLANE, "main")
        self.refusal: FederationError | None = None
        self.first = pb.AgentInstruction()
        self.peers: list[Peer] = []
        self.hellos: list[pb.AgentHello] = []
        self.reports: list[pb.Report] = []
        self.ended: list[int] = []  # epochs whose stream is over
        self.epoch = 0
        self.compact = False
        self.outbox: asyncio.Queue[pb.AgentInstruction | FederationError] = asyncio.Queue()
        self._newest: asyncio.Event = asyncio.Event()
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = serve()
        rpc.add_AgentServiceServicer_to_server(self, self._server)
        credentials = self.credentials.server_credentials()
        self.port = add_port(self._server, f"127.0.0.1:{self.port}", credentials)
        await self._server.start()

    async def stop(self) -> None:
        if self._server:
            await self._server.stop(0)

    async def Connect(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.AgentMessage], context: Context
    ) -> None:
        self.peers.append(peer_from_grpc(context.auth_context()))
        if self.refusal:
            await abort_with(context, self.refusal)
        async for message in request_iterator:
            self.hellos.append(message.hello)
            break
        self.epoch += 1
        epoch = self.epoch
        self._newest.set()
        replaced = self._newest = asyncio.Event()
        if self.first.WhichOneof("body"):
            await context.write(self.first)
        welcome = pb.Welcome(epoch=epoch, report_interval_ms=200, compact_reports=self.compact)
        await context.write(pb.AgentInstruction(welcome=welcome))
        running = asyncio.get_running_loop()
        reading = running.create_task(self._read(request_iterator))
        telling = running.create_task(self._tell(context))
        try:
            over = running.create_task(replaced.wait())
            await asyncio.wait({over, telling}, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                await abort_with(context, Conflict("a newer agent took over."))
        finally:
            self.ended.append(epoch)
            for task in (reading, telling, over):
                task.cancel()

    async def _tell(self, context: Context) -> None:
        while True:
            instruction = await self.outbox.get()
            if isinstance(instruction, FederationError):
                await abort_with(context, instruction)
            else:
                await context.write(instruction)

    async def _read(self, messages: AsyncIterator[pb.AgentMessage]) -> None:
        async for message in messages:
            self.reports.append(message.report)


class Agent:
    """A link with what surrounds it."""

    def __init__(self, plane: ControlPlane, credentials: Credentials) -> None:
        nowhere = Contact(url="https://127.0.0.1:1")
        enrolment = Enrolment(credentials, nowhere, role=PeerRole.CLUSTER, name="c")
        membership = Membership(enrolment, clock=SystemClock(), dice=random.Random(1))
        self.identity = Identity(credentials=credentials, membership=membership)
        self.assignments: list[tuple[Assignment, bool]] = []
        self.routers: list[tuple[RouterAddress, ...]] = []
        self.settings: list[SyncSpec] = []
        self.peers: list[tuple[SyncPeer, ...]] = []
        self.disk = Disk()
        self.versions: tuple[ObservedVersion, ...] = ()
        self.device = Device(id="g", vendor="v", product="p", memory_mib=1)
        self.link = make_link(plane.port, self.identity, self)
        self.task: asyncio.Task[None] | None = None

    def observe(self) -> tuple[Capacity, Observed]:
        engine = EngineStatus(kind=EngineKind.TRITON, ready=True)
        observed = Observed(observed_generation=1, engine=engine, versions=self.versions)
        return Capacity(devices=(self.device,)), observed

    def heard(self, assignment: Assignment, fresh: bool) -> None:
        self.assignments.append((assignment, fresh))


def make_link(port: int, identity: Identity, agent: Agent) -> Link:
    return Link(
        Hello(
            control_plane=f"127.0.0.1:{port}",
            cluster="c",
            url="https://gateway:1",
            engine=EngineKind.TRITON,
            connectivity=Connectivity.DIAL,
            software_version="9",
        ),
        session=Session(dice=random.Random(1), patience=QUICK),
        identity=identity,
        sources=Sources(observe=agent.observe, disk=lambda: agent.disk),
        told=Told(
            assignment=agent.heard,
            routers=agent.routers.append,
            sync=agent.settings.append,
            peers=agent.peers.append,
        ),
        clock=SystemClock(),
    )


async def stopped(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
