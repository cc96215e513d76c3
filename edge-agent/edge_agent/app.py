"""An edge agent, put together: what it consists of, in the order in which it starts.

Input: settings. Output: a running process that serves until SIGTERM or SIGINT, then lets what is in
flight end. It leaves the engine as it is: the models stay loaded, and the next agent finds them.
With the identity of an earlier run it serves from the first second, whether or not there is a
control plane; without one it serves nobody before it has joined.
"""

import asyncio
import contextlib
import logging
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from edge_agent import inventories
from edge_agent.admin import Admin
from edge_agent.admin import Parts as AdminParts
from edge_agent.agent_loop import AgentLoop, AssignmentFile, Decider, Inbox
from edge_agent.backends.base import Backend
from edge_agent.board import Board
from edge_agent.calibrating import CalibrationFile, Calibrator, Uses
from edge_agent.dialling import Hello
from edge_agent.door import Address, Door, ListeningDoor, ReverseDoor
from edge_agent.engine_poll import EnginePoll
from edge_agent.engines import make_backend, queue_source
from edge_agent.exposure import warn_if_exposed
from edge_agent.gateway.gateway import PEER_PATHS, Gateway
from edge_agent.gateway.grpc_service import GrpcService
from edge_agent.gateway.peers import PeerDesk
from edge_agent.golden import GoldenAsker
from edge_agent.identity import Identity, load_identity
from edge_agent.inventory.base import watch
from edge_agent.known_routers import KnownRouters
from edge_agent.link import Link, Sources, Told
from edge_agent.policy.calibration import RampLimits
from edge_agent.policy.events import AssignmentReceived, ServingDoubted
from edge_agent.policy.readonly import ReadOnlyView
from edge_agent.policy.reconcile import Reconciler
from edge_agent.policy.reversing import StockLimits
from edge_agent.policy.session import Session
from edge_agent.queue_poll import QueuePoll
from edge_agent.reverse import ReverseDialler, ReverseSettings
from edge_agent.settings import (
    Settings,
    advertised,
    check,
    connect_to,
    contact,
    made_state_directory,
    publishers,
    runs_on_kubernetes,
    state_directory,
)
from edge_agent.sync.build import SyncSide, make_sync_side
from edge_agent.sync.courtesy import Watch
from edge_agent.worker import Worker
from federation.contract.capacity import Capacity
from federation.contract.errors import FederationError, Invalid
from federation.contract.spiffe import PeerRole
from federation.contract.types import Assignment, Connectivity, EngineKind, Observed
from federation.relay.guard import PeerGuard
from federation.relay.server import ServerLimits, listen, make_runner, require_compiled_parser
from federation.runtime.clock import SystemClock
from federation.runtime.config import load_settings
from federation.runtime.memory import read_tls_in_small_blocks, share_one_arena
from federation.runtime.supervise import Supervisor, stop_on_signals
from federation.runtime.telemetry import set_up_logging
from federation.runtime.version import software_version

log = logging.getLogger(__name__)

PROG = "fed-edge-agent"
GRACE_S = 10.0
SWITCH_S = 0.0005  # a transfer's thread gives way to the gateway after so long
Addresses = tuple[Address | None, Address]  # gateway (None: nothing listens), admin


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns 0 stopped as asked, 1 cannot run, 2 bad settings."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv[:1] == [inventories.COMMAND]:
            return inventories.main(argv[1:], prog=PROG, make_backend=_backend_to_ask)
        settings = load_settings(Settings, prog=PROG, argv=argv)
        check(settings)
        set_up_logging("edge-agent", level=settings.log_level)
        share_one_arena()
        read_tls_in_small_blocks()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_until_signalled(settings))
    except FederationError as error:
        sys.stderr.write(f"{PROG}: {error.sentence()}\n")
        return 2 if isinstance(error, Invalid) else 1
    except KeyboardInterrupt:
        return 0
    return 0


async def _until_signalled(settings: Settings) -> None:
    with stop_on_signals() as stop:
        await serve(settings, stop=stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """The parts of an agent that need no socket of their own."""

    identity: Identity
    guard: PeerGuard
    routers: KnownRouters
    backend: Backend
    board: Board
    inbox: Inbox
    gateway: Gateway
    grpc: GrpcService
    sync: SyncSide
    desk: PeerDesk
    worker: Worker
    loop: AgentLoop
    poll: EnginePoll
    calibrator: Calibrator
    golden: GoldenAsker

    def observe(self) -> tuple[Capacity, Observed]:
        """Return what a report says."""
        observed = self.board.observed(
            self.gateway.in_flight,
            self.gateway.recent,
            self.sync.syncer.progress,
            self.calibrator.calibration,
            self.golden.result,
        )
        return self.board.capacity_at(SystemClock().monotonic_s()), observed

    async def close(self) -> None:
        """End all jobs and connections; the engine keeps its models."""
        await self.worker.stop()
        await self.grpc.switch.close()
        await self.sync.syncer.close()
        self.desk.close()
        await self.backend.close()


def assemble(
    settings: Settings,
    *,
    state_dir: Path,
    backend: Backend,
    identity: Identity,
    registry: CollectorRegistry,
) -> Agent:
    """Make the parts and hand each one what it needs."""
    clock, inbox, board = SystemClock(), Inbox(), Board(backend.kind)

    def doubt(model: str, number: int, reason: str) -> None:
        inbox.put_nowait(ServingDoubted(model=model, version=number, reason=reason))

    gateway = Gateway(backend, served=lambda: board.served, on_doubt=doubt, registry=registry)
    guard = PeerGuard(identity.credentials, PeerRole.ROUTER, clock, paths=PEER_PATHS)
    sync = make_sync_side(
        state_dir,
        cluster=settings.cluster,
        url=settings.control_plane_url,
        credentials=identity.credentials,
        clock=clock,
        dice=_dice(),
        publishers=publishers(settings),
    )
    worker = Worker(
        backend=backend,
        syncer=sync.syncer,
        in_flight=gateway.in_flight,
        emit=inbox.put_nowait,
    )
    loop = AgentLoop(
        decider=_decider(backend.kind),
        worker=worker,
        inbox=inbox,
        board=board,
        file=AssignmentFile(state_dir, cluster=settings.cluster),
        clock=clock,
    )
    loop.on_assignment.append(sync.syncer.assignment_changed)
    golden = GoldenAsker(backend=backend, board=board, staged=worker.staged, clock=clock)
    loop.on_assignment.append(golden.assigned)
    poll = EnginePoll(backend=backend, board=board, emit=inbox.put_nowait, clock=clock)
    return Agent(
        identity=identity,
        guard=guard,
        routers=KnownRouters(state_dir),
        backend=backend,
        board=board,
        inbox=inbox,
        gateway=gateway,
        grpc=GrpcService(backend, gateway.desk(), clock=clock, guard=guard),
        sync=sync,
        desk=PeerDesk(sync.exchange, sync.shelf.peer_view, sync.throttle.upload),
        worker=worker,
        loop=loop,
        poll=poll,
        calibrator=Calibrator(
            backend=backend,
            board=board,
            uses=Uses(busy=lambda: gateway.serving or worker.at_engine, staged=worker.staged),
            file=CalibrationFile(state_dir),
            clock=clock,
            limits=RampLimits(
                total_s=settings.calibrate_s, latency_ms=settings.calibrate_latency_ms
            ),
        ),
        golden=golden,
    )


async def serve(
    settings: Settings,
    *,
    stop: asyncio.Event,
    backend: Backend | None = None,
    on_listening: Callable[[Addresses], None] | None = None,
) -> None:
    """Run an agent until `stop` is set; raises FederationError if it cannot start."""
    require_compiled_parser()
    sys.setswitchinterval(SWITCH_S)
    state_dir = made_state_directory(settings, os.environ)
    identity = load_identity(
        state_dir, settings.cluster, contact(settings), clock=SystemClock(), dice=_dice()
    )
    supervisor, registry = Supervisor(), CollectorRegistry()
    async with contextlib.AsyncExitStack() as stack:
        agent = assemble(
            settings,
            state_dir=state_dir,
            backend=backend or make_backend(settings, state_dir),
            identity=identity,
            registry=registry,
        )
        stack.push_async_callback(agent.close)
        seen = inventories.make_inventories(settings, agent.backend, clock=SystemClock())
        door = _make_door(settings, agent, registry)
        stack.push_async_callback(door.close)
        address = await door.open()
        link = _make_link(settings, agent, url=advertised(settings, address))
        agent.loop.subscribe(link.notify)
        agent.calibrator.on_news.append(link.notify)
        agent.golden.on_news.append(link.notify)
        admin = Admin(_admin_parts(agent, link, supervisor), registry)
        private = make_runner(admin.application(), ServerLimits(shutdown_s=1.0))
        stack.push_async_callback(private.cleanup)
        admin_address = await listen(private, settings.admin_listen)
        agent.loop.restore()
        stack.push_async_callback(supervisor.stop)
        supervisor.start("membership", identity.membership.run)
        supervisor.start("link", link.run)
        supervisor.start("door", door.run)
        show = partial(_show, agent.board, link)
        supervisor.start("inventory", lambda: watch(seen.seeing, show, telling=seen.telling))
        _start(supervisor, settings, agent)
        where = ":".join(map(str, address)) if address else "connections that it makes to routers"
        log.info("agent serves on %s, admin on %s:%d", where, *admin_address)
        if on_listening:
            on_listening((address, admin_address))
        await stop.wait()
        log.info("agent stops; the engine keeps its models")
        agent.gateway.begin_drain()
        agent.grpc.switch.drain()
        await agent.gateway.drained(GRACE_S)


def _start(supervisor: Supervisor, settings: Settings, agent: Agent) -> None:
    """Start what the agent's own parts do all the time."""
    gateway = agent.gateway
    courtesy = Watch(agent.sync.throttle, lambda: gateway.serving, lambda: gateway.begun)
    supervisor.start("agent-loop", agent.loop.run)
    supervisor.start("engine-poll", agent.poll.run)
    supervisor.start("calibrator", agent.calibrator.run)
    supervisor.start("golden", agent.golden.run)
    if (source := queue_source(settings)) is not None:
        supervisor.start("queues", QueuePoll(source, agent.board).run)
    supervisor.start("disk", agent.sync.syncer.watch_disk)
    supervisor.start("scrub", lambda: agent.sync.scrubber.run(settings.scrub_days))
    supervisor.start("courtesy", courtesy.run)
    supervisor.start("exposure", partial(_warn_if_exposed, settings, agent))


def _backend_to_ask(settings: Settings) -> Backend:
    return make_backend(settings, state_directory(settings, os.environ))


def _decider(kind: EngineKind) -> Decider:
    if kind is EngineKind.STATIC:
        return ReadOnlyView()
    return Reconciler(dice=_dice())


def _make_door(settings: Settings, agent: Agent, registry: CollectorRegistry) -> Door:
    """Return the way in for routers that the settings name."""
    application = agent.gateway.application(agent.guard, agent.desk)
    application.on_h2 = agent.grpc.switch.takeover
    credentials, joined = agent.identity.credentials, agent.identity.membership.joined
    if settings.connectivity == "dial":
        return ListeningDoor(application, settings.listen, credentials=credentials, joined=joined)
    dialler = ReverseDialler(
        application,
        credentials=credentials,
        clock=SystemClock(),
        dice=_dice(),
        settings=ReverseSettings(
            stock=StockLimits(idle=settings.reverse_idle), connect_to=connect_to(settings)
        ),
        registry=registry,
    )
    door = ReverseDoor(dialler, routers=lambda: agent.routers.addresses, joined=joined)
    agent.routers.on_change.append(door.routers_changed)
    return door


def _make_link(settings: Settings, agent: Agent, *, url: str) -> Link:
    hello = Hello(
        control_plane=settings.control_plane,
        cluster=settings.cluster,
        url=url,
        engine=agent.backend.kind,
        connectivity=Connectivity(settings.connectivity),
        software_version=software_version(),
    )

    def received(assignment: Assignment, fresh: bool) -> None:  # noqa: FBT001  # Link calls it
        agent.inbox.put_nowait(AssignmentReceived(assignment=assignment, fresh=fresh))

    return Link(
        hello,
        session=Session(dice=_dice()),
        identity=agent.identity,
        sources=Sources(
            observe=agent.observe,
            disk=agent.sync.syncer.disk,
        ),
        told=Told(
            assignment=received,
            routers=agent.routers.keep,
            sync=agent.sync.syncer.settings_changed,
            peers=agent.sync.syncer.peers_changed,
        ),
        clock=SystemClock(),
    )


def _admin_parts(agent: Agent, link: Link, supervisor: Supervisor) -> AdminParts:
    return AdminParts(
        board=agent.board,
        link=link,
        worker=agent.worker,
        syncer=agent.sync.syncer,
        identity=agent.identity,
        guard=agent.guard,
        clock=SystemClock(),
        restarts=supervisor.restarts,
    )


async def _warn_if_exposed(settings: Settings, agent: Agent) -> None:
    if runs_on_kubernetes(settings):
        return  # network policies guard them
    ready = asyncio.Event()
    agent.loop.subscribe(lambda: ready.set() if agent.board.engine.ready else None)
    await ready.wait()
    await warn_if_exposed(settings.engine_url)


def _dice() -> random.Random:
    return random.Random()  # noqa: S311  # spreads dials and retries, guards nothing


def _show(board: Board, link: Link, capacity: Capacity) -> None:
    board.show_capacity(capacity, SystemClock().monotonic_s())
    link.notify()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's where it is installed: it makes the gateway's requests cheaper."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
