"""The control plane as one process: what it is made of, and how it starts and stops.

Input: settings, and the state directory. Output: the operator API on HTTP, the agents' and routers'
services on gRPC, and an exit code: 0 stopped as asked, 1 could not run, 2 bad settings.
"""

import asyncio
import errno
import ipaddress
import logging
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from federation.api.agents import AgentService
from federation.api.auth import Gate
from federation.api.http import DEFAULT_MAX_BLOB_BYTES, OperatorApi, Parts
from federation.api.metrics import ControlPlaneMetrics, Sources
from federation.api.routers import RouterHub, RouterService
from federation.artifacts.local import LocalBlobStore
from federation.contract.errors import Conflict, FederationError, Invalid, Unavailable
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.control_loop import ControlLoop
from federation.identity.tokens import Token, TokenKind, load_or_create
from federation.publisher import Publisher
from federation.relay.server import ServerLimits, listen, make_runner
from federation.runtime.channel import serve
from federation.runtime.clock import SystemClock
from federation.runtime.config import load_settings, setting
from federation.runtime.supervise import Supervisor, stop_on_signals
from federation.runtime.telemetry import set_up_logging
from federation.store.base import Store
from federation.store.memory import MemoryStore
from federation.store.sqlite import SqliteStore

log = logging.getLogger(__name__)

PROG = "fed-control-plane"
HTTP_LIMITS = ServerLimits(keepalive_s=15.0, shutdown_s=1.0)
GRPC_GRACE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The control plane of an inference federation."""

    state_dir: str = setting(help="directory for database, blobs and tokens")
    http_listen: str = setting("127.0.0.1:7480", help="HOST:PORT of the operator API")
    grpc_listen: str = setting("127.0.0.1:7481", help="HOST:PORT for edge agents and routers")
    lease_seconds: int = setting(10, help="silence after which a cluster counts as absent")
    report_interval_ms: int = setting(1000, help="how often agents report")
    store: Literal["sqlite", "memory"] = setting("sqlite", help="sqlite, or memory to forget all")
    max_blob_bytes: int = setting(DEFAULT_MAX_BLOB_BYTES, help="longest file of a model package")
    allowed_hosts: tuple[str, ...] = setting((), help="host name by which clients may call the API")
    insecure_listen: bool = setting(default=False, help="allow addresses other than loopback")
    log_level: str = setting("info", help="debug, info, warning or error")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    try:
        settings = load_settings(Settings, prog=PROG, argv=argv)
        _check(settings)
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
    router: Token
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
        router = load_or_create(state_dir / "router.token", TokenKind.ROUTER, "local")
        loop = ControlLoop(
            store=store, publisher=publisher, clock=clock, lease_seconds=settings.lease_seconds
        )
        gate = Gate(
            admin_sha256=admin.sha256,
            router_sha256=router.sha256,
            credential_of=lambda cluster: _credential(loop, cluster),
        )
        agents = AgentService(
            loop=loop, publisher=publisher, report_interval_ms=settings.report_interval_ms
        )
        routers = RouterService(loop=loop, publisher=publisher, hub=hub, gate=gate)
        metrics = ControlPlaneMetrics(
            Sources(
                loop=loop,
                publisher=publisher,
                agents=agents,
                hub=hub,
                restarts=supervisor.restarts,
                clock=clock,
                version=software_version(),
            )
        )
        api = OperatorApi(
            Parts(
                loop=loop,
                publisher=publisher,
                blobs=LocalBlobStore(state_dir / "blobs"),
                hub=hub,
                gate=gate,
                metrics=metrics,
                clock=clock,
                token_key=admin.text,
                version=software_version(),
                allowed_hosts=settings.allowed_hosts,
                max_blob_bytes=settings.max_blob_bytes,
            )
        )
        stack.push_async_callback(supervisor.stop)
        supervisor.start("control-loop", loop.run)
        grpc_address = await _serve_grpc(settings.grpc_listen, agents, routers, stack)
        http_address = await _serve_http(settings.http_listen, api, stack)
        yield ControlPlane(
            loop=loop,
            publisher=publisher,
            hub=hub,
            api=api,
            admin=admin,
            router=router,
            http_address=http_address,
            grpc_address=grpc_address,
        )


def _credential(loop: ControlLoop, cluster: str) -> str:
    record = loop.state.clusters.get(cluster)
    return record.credential_sha256 if record else ""


async def _serve_http(address: str, api: OperatorApi, stack: AsyncExitStack) -> str:
    """Start the HTTP server and return where it listens."""
    runner = make_runner(api.app, HTTP_LIMITS)
    stack.push_async_callback(runner.cleanup)
    _, port = await listen(runner, address)
    return _with_port(address, port)


async def _serve_grpc(
    address: str, agents: AgentService, routers: RouterService, stack: AsyncExitStack
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
    rpc.add_AgentServiceServicer_to_server(agents, server)
    rpc.add_RouterServiceServicer_to_server(routers, server)
    try:
        port = server.add_insecure_port(address)
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


def _check(settings: Settings) -> None:
    """Raise Invalid for settings that cannot work together."""
    if settings.lease_seconds < 1 or settings.report_interval_ms < 10:
        raise Invalid("--lease-seconds must be at least 1, --report-interval-ms at least 10.")
    if settings.report_interval_ms * 2 > settings.lease_seconds * 1000:
        raise Invalid(
            "a lease must last at least two report intervals.",
            hint="Raise --lease-seconds or lower --report-interval-ms.",
        )
    if settings.log_level.lower() not in ("debug", "info", "warning", "error"):
        raise Invalid(
            f"--log-level {settings.log_level!r} is unknown: debug, info, warning, error."
        )
    for flag, address in (("http", settings.http_listen), ("grpc", settings.grpc_listen)):
        host, _ = split_address(address)
        if not settings.insecure_listen and not _is_loopback(host):
            raise Invalid(
                f"--{flag}-listen {address} is reachable from other machines, and tokens would "
                "cross the network unencrypted.",
                hint="Use a loopback address behind a TLS proxy, or accept that with "
                "--insecure-listen.",
            )


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` (IPv6 in brackets); raises Invalid."""
    host, separator, port = address.rpartition(":")
    if not (separator and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise Invalid(f"{address!r} is not an address.", hint="Use HOST:PORT.")
    return host.strip("[]"), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def software_version() -> str:
    """Return the installed version, or "unknown" when run from a bare checkout."""
    try:
        return version("inference-federation")
    except PackageNotFoundError:
        return "unknown"
