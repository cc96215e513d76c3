"""A router, put together: what it consists of, in the order in which it starts.

Input: settings. Output: a running process that serves until SIGTERM or SIGINT, then finishes what
is in flight. Nothing here is global: several routers can run in one process.
"""

import asyncio
import contextlib
import logging
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from federation.contract.errors import FederationError, Invalid
from federation.relay.application import Application
from federation.relay.server import (
    ServerLimits,
    listen,
    make_runner,
    require_compiled_parser,
)
from federation.runtime.clock import Clock, SystemClock
from federation.runtime.config import load_settings
from federation.runtime.memory import keep_freed
from federation.runtime.supervise import Supervisor, stop_on_signals
from federation.runtime.telemetry import set_up_logging
from router import tablefile
from router.admin import Admin
from router.connection_metrics import ConnectionCollector
from router.geo import BUNDLED, Locator
from router.grpc.service import GrpcService
from router.limits import proxy_limits, public_limits
from router.member import Member
from router.metrics import Metrics
from router.policy import table as tables
from router.policy.admission import Admission
from router.policy.signals import Signals
from router.probe import Prober
from router.proxy import Proxy
from router.records import Records
from router.settings import Settings, check, parse_location, parse_shares, public_tls
from router.state import RouterState, Steer
from router.upstream.http import Upstreams

log = logging.getLogger(__name__)

_KEPT_BYTES = 16 * 1024 * 1024  # of memory that was freed, for the next bodies
Addresses = tuple[tuple[str, int], tuple[str, int]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run a router as a process: exit 0 after a graceful stop, 1 cannot run, 2 bad settings."""
    try:
        settings = load_settings(Settings, prog="fed-router", argv=argv)
        check(settings)
        set_up_logging("router", level=settings.log_level)
        keep_freed(trim_bytes=_KEPT_BYTES, map_bytes=_KEPT_BYTES // 4)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_until_signalled(settings))
    except FederationError as error:
        sys.stderr.write(f"fed-router: {error.sentence()}\n")
        sys.exit(2 if isinstance(error, Invalid) else 1)


async def _until_signalled(settings: Settings) -> None:
    with stop_on_signals() as stop:
        await serve(settings, stop=stop)


async def serve(
    settings: Settings,
    *,
    stop: asyncio.Event,
    clock: Clock | None = None,
    on_listening: Callable[[Addresses], None] = lambda _: None,
) -> None:
    """Run a router until `stop` is set; raises FederationError if it cannot start."""
    require_compiled_parser()
    state = _state(settings, clock or SystemClock())
    member = None if settings.table else Member(settings, state)
    tls = public_tls(settings)
    metrics, supervisor = Metrics(state), Supervisor()
    async with contextlib.AsyncExitStack() as stack:
        locator = Locator(_database(settings), settings.trusted_proxies)
        stack.callback(locator.close)
        upstreams = _upstreams(settings, state, member)
        stack.push_async_callback(upstreams.close)
        proxy = _proxy(settings, state, upstreams, metrics, locator)
        if member is None:
            _read_table(settings, state)
        else:
            member.begin(locator)
            stack.push_async_callback(member.close)
        stack.push_async_callback(supervisor.stop)
        admin = Admin(state=state, metrics=metrics, locator=locator)
        admin_address = await _serve_admin(admin, settings.admin_listen, stack)
        if member is not None and member.credentials.complete:
            await member.open_door()
        public = make_runner(_application(proxy, stack), public_limits(settings))
        reversed_ = member.reverse if member else None
        metrics.registry.register(ConnectionCollector(public.open, reversed_))
        stack.push_async_callback(public.cleanup)  # stops first: finishes what is in flight
        address = await listen(public, settings.listen, tls.context if tls else None)
        hung_up = stack.enter_context(_hangups())
        _watch_over(supervisor, Prober(state=state, upstreams=upstreams), proxy)
        if tls:
            supervisor.start("public TLS", partial(tls.follow, hung_up.certificate))
        if member is None:
            supervisor.start("follow", partial(_follow_table, settings, state, hung_up.table))
        else:
            supervisor.start("membership", member.membership.run)
            supervisor.start("follow", partial(member.follow, locator, _url(settings, address)))
        log.info("%s listens on %s, admin on %s", state.name, _join(address), _join(admin_address))
        on_listening((address, admin_address))
        await stop.wait()
        log.info("router %s stops", state.name)


async def _serve_admin(
    admin: Admin, address: str, stack: contextlib.AsyncExitStack
) -> tuple[str, int]:
    runner = make_runner(admin.application(), ServerLimits(shutdown_s=1.0))
    stack.push_async_callback(runner.cleanup)
    return await listen(runner, address)


def _watch_over(supervisor: Supervisor, prober: Prober, proxy: Proxy) -> None:
    supervisor.start("probe", prober.run)
    supervisor.start("shadow", proxy.shadow.run)


def _database(settings: Settings) -> Path:
    return Path(settings.geoip_db) if settings.geoip_db else BUNDLED


def _url(settings: Settings, address: tuple[str, int]) -> str:
    """Return where clients reach this router."""
    scheme = "https" if settings.tls_certificate else "http"
    return settings.advertise_url or f"{scheme}://{_join(address)}"


def _state(settings: Settings, clock: Clock) -> RouterState:
    signals = Signals()
    signals.prefer, signals.ceilings = settings.prefer, parse_shares(settings.max_share)
    signals.queue_depth = settings.queue_depth
    return RouterState(
        name=settings.name,
        clock=clock,
        signals=signals,
        dice=random.Random(),  # noqa: S311  # spreads load, guards nothing
        location=parse_location(settings.location),
        allow_anonymous=settings.allow_anonymous,
        steer=Steer(settings.steer),
        records=Records(settings.decision_records),
    )


def _proxy(
    settings: Settings,
    state: RouterState,
    upstreams: Upstreams,
    metrics: Metrics,
    locator: Locator,
) -> Proxy:
    return Proxy(
        state=state,
        upstreams=upstreams,
        metrics=metrics,
        locator=locator,
        admission=Admission(settings.max_concurrent, settings.replay_memory_bytes),
        limits=proxy_limits(settings),
    )


def _application(proxy: Proxy, stack: contextlib.AsyncExitStack) -> Application:
    """Return what answers clients, whether they speak HTTP/1.1 or gRPC."""
    grpc = GrpcService(proxy.shared())
    stack.push_async_callback(grpc.switch.close)
    application = proxy.application()
    application.on_h2 = grpc.switch.takeover
    return application


def _upstreams(settings: Settings, state: RouterState, member: Member | None) -> Upstreams:
    upstreams = Upstreams(
        settings.connect_to,
        credentials=member.credentials if member else None,
        reverse=member.reverse if member else None,
        clock=state.clock,
    )
    state.on_swap.append(lambda table: upstreams.follow(table.endpoints))
    return upstreams


def _read_table(settings: Settings, state: RouterState) -> None:
    state.swap(tables.build(tablefile.load_written(Path(settings.table))))


async def _follow_table(settings: Settings, state: RouterState, changed: asyncio.Event) -> None:
    """Read the table file again whenever it is said to have changed; a bad one is not used."""
    while True:
        await changed.wait()
        changed.clear()
        try:
            _read_table(settings, state)
        except Invalid as error:
            log.error("the old table stays in use: %s", error.sentence())  # noqa: TRY400
        else:
            log.info("routing by %s, version %d", settings.table, state.require_table().version)


@dataclass(frozen=True, slots=True)
class _HungUp:
    """SIGHUP came: each file that it may concern is looked at again."""

    table: asyncio.Event = field(default_factory=asyncio.Event)
    certificate: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self) -> None:
        self.table.set()
        self.certificate.set()


@contextlib.contextmanager
def _hangups() -> Iterator[_HungUp]:
    loop, hung_up = asyncio.get_running_loop(), _HungUp()
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    try:
        yield hung_up
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _join(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed; it halves the cost of a request."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
