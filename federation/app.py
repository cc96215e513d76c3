"""The control plane as one process: what it is made of, and how it starts and stops.

Input: settings, and the state directory. Output: the operator API on HTTP, the agents' and routers'
services on gRPC, and an exit code: 0 stopped as asked, 1 could not run, 2 bad settings.
"""

import asyncio
import errno
import logging
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from federation.api.agents import AgentService
from federation.api.auth import Gate, Known
from federation.api.denials import Denials
from federation.api.doorkeeper import Doorkeeper
from federation.api.http import OperatorApi, Parts
from federation.api.metrics import ControlPlaneMetrics, Sources
from federation.api.packs import PackLinks
from federation.api.rollout_journal import RolloutJournal
from federation.api.routers import RouterHub, RouterService, serve_routers
from federation.api.storecare import StoreCare
from federation.artifacts.base import ArtifactStore
from federation.artifacts.packs import PackStore
from federation.artifacts.stores import open_objects
from federation.contract.errors import Conflict, FederationError, Invalid, Unavailable
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.control_loop import Constants, ControlLoop
from federation.identity.keyring import Identity, Keyring, open_keyring
from federation.identity.links import open_links
from federation.identity.oidc import Oidc
from federation.identity.release_key import open_release_key
from federation.identity.tokens import Token, TokenKind, load_or_create
from federation.publisher import Publisher
from federation.relay.connections import ConnectionLimits
from federation.relay.server import ServerLimits, listen, make_runner
from federation.runtime.channel import add_port, serve
from federation.runtime.clock import Clock, SystemClock
from federation.runtime.collector import collect_rarely
from federation.runtime.config import load_settings
from federation.runtime.otlp import Exporter
from federation.runtime.supervise import Supervisor, stop_on_signals
from federation.runtime.telemetry import set_up_logging
from federation.runtime.version import software_version
from federation.settings import Settings, check_settings, people_of, split_address
from federation.store.base import Store
from federation.store.memory import MemoryStore
from federation.store.sqlite import SqliteStore

log = logging.getLogger(__name__)

PROG = "fed-control-plane"
HTTP_LIMITS = ServerLimits(
    keepalive_s=15.0,
    shutdown_s=1.0,
    connections=ConnectionLimits(total=4096, per_address=512),  # strangers may ask to join
)
GRPC_GRACE_S = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    try:
        settings = load_settings(Settings, prog=PROG, argv=argv)
        check_settings(settings)
        set_up_logging("control-plane", level=settings.log_level)
        logging.getLogger("alembic").setLevel(logging.WARNING)
    except Invalid as error:
        return _say(error, 2)
    try:
        asyncio.run(run(settings))
    except FederationError as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return 0
    return 0


def _say(error: FederationError, code: int) -> int:
    sys.stderr.write(f"{PROG}: {error.sentence()}\n")
    return code


async def run(settings: Settings) -> None:
    """Serve until a signal."""
    with stop_on_signals() as stop:
        async with control_plane(settings) as plane:
            collect_rarely()
            log.info("listening", extra={"http": plane.http_address, "grpc": plane.grpc_address})
            await stop.wait()
            log.info("stopping")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """A running control plane: its parts, and where it listens."""

    loop: ControlLoop
    publisher: Publisher
    hub: RouterHub
    api: OperatorApi
    admin: Token
    keyring: Keyring
    http_address: str
    grpc_address: str


@asynccontextmanager
async def control_plane(settings: Settings) -> AsyncIterator[ControlPlane]:
    """Build all parts, serve while the context lasts, then stop them in the reverse order.

    Raises Invalid, Conflict or Unavailable when the state directory or an address cannot be used.
    """
    clock, publisher, supervisor, hub = SystemClock(), Publisher(), Supervisor(), RouterHub()
    state_dir = Path(settings.state_dir)
    async with AsyncExitStack() as stack:
        store = _open_store(settings, state_dir)
        stack.callback(store.close)
        admin = load_or_create(state_dir / "admin.token", TokenKind.ADMIN, "local")
        keyring = open_keyring(state_dir, _identity(settings), clock)
        release_key = open_release_key(state_dir)
        artifacts = await _open_artifacts(settings, state_dir, clock)
        loop = ControlLoop(
            store=store,
            publisher=publisher,
            clock=clock,
            constants=_constants(settings, keyring),
            roots=keyring.rollover.bundle,
            release_keys=lambda: release_key.trusted,
        )
        denials = Denials(submit=loop.submit, clock=clock)
        gate = Gate(
            Known(
                state=lambda: loop.state,
                trust=lambda: publisher.trust.newest,
                admin=admin,
                clock=clock,
                people=Oidc(known, clock) if (known := people_of(settings)) else None,
            )
        )
        doorkeeper = Doorkeeper(
            state=lambda: loop.state,
            trust=lambda: publisher.trust.newest,
            clock=clock,
            denials=denials,
        )
        agents = AgentService(
            loop=loop,
            publisher=publisher,
            doorkeeper=doorkeeper,
            report_interval_ms=settings.report_interval_ms,
        )
        routers = RouterService(loop=loop, publisher=publisher, hub=hub, doorkeeper=doorkeeper)
        care = StoreCare(loop, artifacts, clock)
        links = PackLinks(open_links(state_dir), clock, base_url=settings.packs_url)
        spans = _exporter(settings)
        journal = (
            RolloutJournal(loop, publisher, spans.offer)
            if spans
            else RolloutJournal(loop, publisher)
        )
        metrics = ControlPlaneMetrics(
            Sources(
                loop=loop,
                publisher=publisher,
                agents=agents,
                hub=hub,
                links=links,
                care=care.figures,
                journal=journal,
                restarts=supervisor.restarts,
                denials=denials.total,
                clock=clock,
                version=software_version(),
            )
        )
        api = OperatorApi(
            Parts(
                loop=loop,
                publisher=publisher,
                artifacts=artifacts,
                care=care,
                release_key=release_key,
                links=links,
                hub=hub,
                gate=gate,
                metrics=metrics,
                clock=clock,
                store=store,
                denials=denials,
                keyring=keyring,
                token_key=admin.text,
                version=software_version(),
                allowed_hosts=settings.allowed_hosts,
            )
        )
        stack.push_async_callback(supervisor.stop)
        supervisor.start("control-loop", loop.run)
        supervisor.start("denials", denials.run)
        supervisor.start("rollout-journal", journal.run)
        if spans is not None:
            supervisor.start("spans", spans.run)
        if settings.collect_hours:
            every = timedelta(hours=settings.collect_hours)
            supervisor.start("store-care", lambda: care.run(every))
        _keep_fresh(keyring, loop, publisher, supervisor)
        grpc_address = await _serve_grpc(settings.grpc_listen, (agents, routers), keyring, stack)
        http_address = await _serve_http(settings.http_listen, api, keyring, stack)
        yield ControlPlane(
            loop=loop,
            publisher=publisher,
            hub=hub,
            api=api,
            admin=admin,
            keyring=keyring,
            http_address=http_address,
            grpc_address=grpc_address,
        )


async def _open_artifacts(settings: Settings, state_dir: Path, clock: Clock) -> ArtifactStore:
    """Open where packages lie: the bucket that is set, else a folder of the state directory."""
    objects = open_objects(settings.store_url or str(state_dir / "artifacts"))
    return await PackStore.open(objects, clock=clock)


def _identity(settings: Settings) -> Identity:
    """Return who this control plane is; clients may dial it where it listens, too."""
    hosts = [split_address(address)[0] for address in (settings.http_listen, settings.grpc_listen)]
    return Identity(
        trust_domain=settings.trust_domain,
        name=settings.name,
        leaf_life=timedelta(seconds=settings.leaf_seconds),
        renew_grace=timedelta(days=settings.renew_grace_days),
        hosts=(*settings.allowed_hosts, *(h for h in hosts if h not in ("0.0.0.0", "::"))),  # noqa: S104
    )


def _constants(settings: Settings, keyring: Keyring) -> Constants:
    return Constants(
        lease=timedelta(seconds=settings.lease_seconds),
        leaf_life=keyring.rollover.leaf_life,
        trust_domain=settings.trust_domain,
        pepper=keyring.pepper,
        max_rollouts=settings.max_rollouts,
    )


def _exporter(settings: Settings) -> Exporter | None:
    """Return what sends spans, None where nobody collects them."""
    if not settings.traces_url:
        return None
    return Exporter(settings.traces_url, service=PROG, version=software_version())


def _keep_fresh(
    keyring: Keyring, loop: ControlLoop, publisher: Publisher, supervisor: Supervisor
) -> None:
    """Have roots and our own certificate follow time, and our own servers whom everyone trusts."""

    async def follow_trust() -> None:
        with publisher.trust.subscription() as trusts:
            while True:
                keyring.credentials.keep_trust(await trusts.take())

    keyring.rollover.on_change += [keyring.own.roots_changed, loop.publish_trust]
    supervisor.start("roots", keyring.rollover.run)
    supervisor.start("own-certificate", keyring.own.run)
    supervisor.start("own-trust", follow_trust)


async def _serve_http(
    address: str, api: OperatorApi, keyring: Keyring, stack: AsyncExitStack
) -> str:
    """Start the HTTPS server and return where it listens. Only processes show a certificate."""
    runner = make_runner(api.app, HTTP_LIMITS)
    stack.push_async_callback(runner.cleanup)
    context = keyring.credentials.server_context(demand_clients=False)
    _, port = await listen(runner, address, ssl_context=context)
    return _with_port(address, port)


async def _serve_grpc(
    address: str,
    services: tuple[AgentService, RouterService],
    keyring: Keyring,
    stack: AsyncExitStack,
) -> str:
    """Start the gRPC server and return where it listens; raises Conflict or Unavailable."""
    host, port = split_address(address)
    try:  # gRPC itself would print several lines about a port in use
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise Unavailable(f"cannot listen on {address}: {error.strerror}.") from None
        raise Conflict(
            f"{address} is in use by another process.",
            hint="Stop it or choose another --grpc-listen.",
            reason="address-in-use",
        ) from None
    server = serve()
    rpc.add_AgentServiceServicer_to_server(services[0], server)
    serve_routers(services[1], server)
    try:
        port = add_port(server, address, keyring.credentials.server_credentials())
    except RuntimeError:
        raise Unavailable(f"cannot listen on {address}.") from None
    await server.start()
    stack.push_async_callback(server.stop, GRPC_GRACE_S)
    return _with_port(address, port)


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"


def _open_store(settings: Settings, state_dir: Path) -> Store:
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Unavailable(
            f"cannot use the state directory {state_dir}: {error.strerror}."
        ) from None
    return SqliteStore(state_dir) if settings.store == "sqlite" else MemoryStore()
