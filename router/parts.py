"""The parts of a router, made of its settings: what is the same in a router that is one process
and in a worker of one that is several.

Input: settings. Output: objects that `app` and `workers.worker` put together.
"""

import asyncio
import contextlib
import logging
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from federation.contract.errors import Invalid
from federation.relay.application import Application
from federation.relay.server import ServerLimits, listen, make_runner
from federation.runtime.clock import Clock
from federation.runtime.memory import keep_freed
from federation.trust.credentials import Credentials
from router.admin import Admin
from router.geo import BUNDLED, Locator
from router.grpc.service import GrpcService
from router.limits import proxy_limits
from router.membership import tablefile
from router.metrics.requests import Metrics
from router.policy import table as tables
from router.policy.admission import Admission
from router.policy.hedging import Hedging
from router.policy.signals import Signals
from router.records import Records
from router.request.proxy import Proxy
from router.settings import Settings, parse_location, parse_shares
from router.state import RouterState, Steer
from router.upstream.http import Upstreams
from router.upstream.reverse import ReversePool

log = logging.getLogger(__name__)

_KEPT_BYTES = 16 * 1024 * 1024  # of memory that was freed, for the next bodies
_OWN_BYTES = 256 * 1024  # blocks from here on are taken and given back one by one: uvloop has one
# for each TLS connection and hardly writes to it, and reads are shorter


def set_up_memory() -> None:
    """Keep freed memory for the next bodies."""
    keep_freed(trim_bytes=_KEPT_BYTES, map_bytes=_OWN_BYTES)


def make_locator(settings: Settings, stack: contextlib.AsyncExitStack) -> Locator:
    """Return what tells where clients are; raises Invalid without a readable database."""
    database = Path(settings.geoip_db) if settings.geoip_db else BUNDLED
    locator = Locator(database, settings.trusted_proxies)
    stack.callback(locator.close)
    return locator


def make_state(settings: Settings, clock: Clock) -> RouterState:
    """Return the heart of a router, with nothing to route by."""
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
        hedging=Hedging(settings.hedge_budget, settings.no_hedge),
        records=Records(settings.decision_records),
    )


def make_proxy(
    settings: Settings,
    state: RouterState,
    upstreams: Upstreams,
    metrics: Metrics,
    locator: Locator,
) -> Proxy:
    """Return the request path."""
    return Proxy(
        state=state,
        upstreams=upstreams,
        metrics=metrics,
        locator=locator,
        admission=Admission(settings.max_concurrent, settings.replay_memory_bytes),
        limits=proxy_limits(settings),
    )


def make_application(proxy: Proxy, stack: contextlib.AsyncExitStack) -> Application:
    """Return what answers clients, whether they speak HTTP/1.1 or gRPC."""
    grpc = GrpcService(proxy.shared())
    stack.push_async_callback(grpc.switch.close)
    application = proxy.application()
    application.on_h2 = grpc.switch.takeover
    return application


def make_upstreams(
    settings: Settings,
    state: RouterState,
    stack: contextlib.AsyncExitStack,
    credentials: Credentials | None,
    reverse: ReversePool | None = None,
) -> Upstreams:
    """Return the ways to the clusters of whatever table is in use."""
    upstreams = Upstreams(
        settings.connect_to, credentials=credentials, reverse=reverse, clock=state.clock
    )
    state.on_swap.append(lambda table: upstreams.follow(table.endpoints))
    stack.push_async_callback(upstreams.close)
    return upstreams


async def serve_admin(
    admin: Admin, address: str, stack: contextlib.AsyncExitStack
) -> tuple[str, int]:
    """Listen on the admin address until the stack unwinds; raises as `listen` does."""
    runner = make_runner(admin.application(), ServerLimits(shutdown_s=1.0))
    stack.push_async_callback(runner.cleanup)
    return await listen(runner, address)


def url(settings: Settings, address: tuple[str, int]) -> str:
    """Return where clients reach this router."""
    scheme = "https" if settings.tls_certificate else "http"
    return settings.advertise_url or f"{scheme}://{join(address)}"


def read_table(settings: Settings, state: RouterState) -> None:
    """Route by the table file; raises Invalid."""
    state.swap(tables.build(tablefile.load_written(Path(settings.table))))


async def follow_table(settings: Settings, state: RouterState, changed: asyncio.Event) -> None:
    """Read the table file again whenever it is said to have changed; a bad one is not used."""
    while True:
        await changed.wait()
        changed.clear()
        try:
            read_table(settings, state)
        except Invalid as error:
            log.error("the old table stays in use: %s", error.sentence())  # noqa: TRY400
        else:
            log.info("routing by %s, version %d", settings.table, state.require_table().version)


@dataclass(frozen=True, slots=True)
class HungUp:
    """SIGHUP came: each file that it may concern is looked at again."""

    table: asyncio.Event = field(default_factory=asyncio.Event)
    certificate: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self) -> None:
        """Have everything looked at."""
        self.table.set()
        self.certificate.set()


@contextlib.contextmanager
def hangups() -> Iterator[HungUp]:
    """Yield what SIGHUP sets, until left."""
    loop, hung_up = asyncio.get_running_loop(), HungUp()
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    try:
        yield hung_up
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def until(
    stop: asyncio.Event, name: str, public: tuple[str, int], admin: tuple[str, int]
) -> None:
    """Say that a router runs, until it is to stop."""
    log.info("%s listens on %s, admin on %s", name, join(public), join(admin))
    await stop.wait()
    log.info("router %s stops", name)


def join(address: tuple[str, int]) -> str:
    """Return HOST:PORT."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed; it halves the cost of a request."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
