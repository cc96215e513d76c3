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
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from federation.contract.errors import FederationError, Invalid
from federation.relay.forward import Forwarder
from federation.relay.server import (
    BodyLimits,
    ServerLimits,
    listen,
    make_runner,
    require_compiled_parser,
)
from federation.runtime.clock import Clock, SystemClock
from federation.runtime.config import load_settings
from federation.runtime.supervise import Supervisor, stop_on_signals
from federation.runtime.telemetry import set_up_logging
from router import tablefile
from router.admin import Admin
from router.call import ProxyLimits
from router.explain import explain
from router.geo import BUNDLED, Locator
from router.metrics import Metrics
from router.policy import table as tables
from router.policy.admission import Admission
from router.probe import Prober
from router.proxy import Proxy
from router.settings import Settings, check, parse_location, read_token
from router.state import RouterState
from router.upstream.http import Upstreams
from router.watch import Uplink, Watcher

log = logging.getLogger(__name__)

GRACE_S = 10.0
Addresses = tuple[tuple[str, int], tuple[str, int]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run a router as a process: exit 0 after a graceful stop, 1 cannot run, 2 bad settings."""
    try:
        settings = load_settings(Settings, prog="fed-router", argv=argv)
        check(settings)
        set_up_logging("router", level=settings.log_level)
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
    on_listening: Callable[[Addresses], None] | None = None,
) -> None:
    """Run a router until `stop` is set; raises FederationError if it cannot start."""
    require_compiled_parser()
    state = RouterState(
        name=settings.name,
        clock=clock or SystemClock(),
        dice=random.Random(),  # noqa: S311  # spreads load, guards nothing
        location=parse_location(settings.location),
    )
    database = Path(settings.geoip_db) if settings.geoip_db else BUNDLED
    metrics = Metrics(state)
    supervisor = Supervisor()
    async with contextlib.AsyncExitStack() as stack:
        locator = Locator(database, settings.trusted_proxies)
        stack.callback(locator.close)
        upstreams = Upstreams(Forwarder(), settings.connect_to)
        stack.push_async_callback(upstreams.close)
        proxy = Proxy(
            state=state,
            upstreams=upstreams,
            metrics=metrics,
            locator=locator,
            admission=Admission(settings.max_concurrent),
            limits=_limits(settings),
        )
        admin = Admin(state=state, metrics=metrics, locator=locator)
        follow = _source(settings, state, locator)
        stack.push_async_callback(supervisor.stop)
        private = make_runner(admin.application(), ServerLimits(shutdown_s=1.0))
        stack.push_async_callback(private.cleanup)
        admin_address = await listen(private, settings.admin_listen)
        public = make_runner(proxy.application(), ServerLimits(shutdown_s=GRACE_S))
        stack.push_async_callback(public.cleanup)  # stops first: finishes what is in flight
        address = await listen(public, settings.listen)
        supervisor.start("probe", Prober(state=state, upstreams=upstreams).run)
        supervisor.start("follow", lambda: follow(address))
        log.info("router %s listens on %s:%d, admin on %s:%d", state.name, *address, *admin_address)
        if on_listening:
            on_listening((address, admin_address))
        await stop.wait()
        log.info("router %s stops", state.name)


def _limits(settings: Settings) -> ProxyLimits:
    return ProxyLimits(
        body=BodyLimits(max_bytes=settings.max_body_bytes),
        replay_bytes=min(settings.replay_buffer_bytes, settings.max_body_bytes),
        deadline_s=settings.deadline_ms / 1000,
    )


def _source(
    settings: Settings, state: RouterState, locator: Locator
) -> Callable[[tuple[str, int]], Awaitable[None]]:
    """Load the first table if there is one already; return the task that follows its changes."""
    if settings.table:
        path = Path(settings.table)
        state.swap(tables.build(tablefile.load_written(path)))
        return lambda _: _follow_file(path, state)
    token = read_token(settings.token_file)
    state_dir = Path(settings.state_dir) if settings.state_dir else None
    if state_dir is None:
        log.warning("without --state-dir this router cannot restart without the control plane")

    def watcher(url: str) -> Watcher:
        uplink = Uplink(address=settings.control_plane, token=token, url=url, state_dir=state_dir)
        return Watcher(state=state, explain=partial(explain, state, locator), uplink=uplink)

    watcher("").load_from_disk()
    return lambda address: watcher(
        settings.advertise_url or f"http://{address[0]}:{address[1]}"
    ).run()


async def _follow_file(path: Path, state: RouterState) -> None:
    """Read the table again whenever SIGHUP comes; a bad one is reported and not used."""
    with _hangups() as hung_up:
        while True:
            await hung_up.wait()
            hung_up.clear()
            try:
                state.swap(tables.build(tablefile.load_written(path)))
            except Invalid as error:
                log.error("the old table stays in use: %s", error.sentence())  # noqa: TRY400
            else:
                log.info("routing by %s, version %d", path, state.require_table().version)


@contextlib.contextmanager
def _hangups() -> Iterator[asyncio.Event]:
    loop, hung_up = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    try:
        yield hung_up
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed; it halves the cost of a request."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
