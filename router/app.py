"""A router, put together: what it consists of, in the order in which it starts.

Input: settings. Output: a running process that serves until SIGTERM or SIGINT, then finishes what
is in flight. Nothing here is global: several routers can run in one process.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from federation.contract.errors import FederationError, Invalid
from federation.relay.server import listen, make_runner, require_compiled_parser
from federation.runtime.clock import Clock, SystemClock
from federation.runtime.config import load_settings
from federation.runtime.supervise import Supervisor, stop_on_signals
from federation.runtime.telemetry import set_up_logging
from router import parts
from router.admin import Admin
from router.answering import Here
from router.limits import public_limits
from router.membership.member import Member
from router.metrics.connections import ConnectionCollector
from router.metrics.requests import Metrics
from router.probe import Prober
from router.settings import Settings, check, public_tls
from router.workers.keeper import prepare, workers_of
from router.workers.keeper import serve as serve_with_workers

log = logging.getLogger(__name__)

Addresses = tuple[tuple[str, int], tuple[str, int]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run a router as a process: exit 0 after a graceful stop, 1 cannot run, 2 bad settings."""
    try:
        settings = load_settings(Settings, prog="fed-router", argv=argv)
        check(settings)
        set_up_logging("router", level=settings.log_level)
        parts.set_up_memory()
        factory = parts.loop_factory()
        with contextlib.ExitStack() as stack:
            run: Callable[[asyncio.Event], Awaitable[None]]
            if workers_of(settings) == 1:
                run = partial(_serve_alone, settings)
            else:
                run = partial(serve_with_workers, stack.enter_context(prepare(settings)))
            runner = stack.enter_context(asyncio.Runner(loop_factory=factory))
            runner.run(_until_signalled(run))
    except FederationError as error:
        sys.stderr.write(f"fed-router: {error.sentence()}\n")
        sys.exit(2 if isinstance(error, Invalid) else 1)


async def _until_signalled(run: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    with stop_on_signals() as stop:
        await run(stop)


async def _serve_alone(settings: Settings, stop: asyncio.Event) -> None:
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
    state = parts.make_state(settings, clock or SystemClock())
    member = None if settings.table else Member(settings, state)
    tls = public_tls(settings)
    metrics, supervisor = Metrics(state), Supervisor()
    async with contextlib.AsyncExitStack() as stack:
        locator = parts.make_locator(settings, stack)
        credentials, reverse = (member.credentials, member.reverse) if member else (None, None)
        upstreams = parts.make_upstreams(settings, state, stack, credentials, reverse)
        proxy = parts.make_proxy(settings, state, upstreams, metrics, locator)
        if member is None:
            parts.read_table(settings, state)
        else:
            member.begin(locator)
            stack.push_async_callback(member.close)
        stack.push_async_callback(supervisor.stop)
        here = Here(state, metrics, locator)
        admin = Admin(state=state, answering=here)
        admin_address = await parts.serve_admin(admin, settings.admin_listen, stack)
        if member is not None and member.credentials.complete:
            await member.open_door()
        public = make_runner(parts.make_application(proxy, stack), public_limits(settings))
        metrics.registry.register(ConnectionCollector(public.open, reverse))
        stack.push_async_callback(public.cleanup)  # stops first: finishes what is in flight
        address = await listen(public, settings.listen, tls.context if tls else None)
        here.listening = True
        hung_up = stack.enter_context(parts.hangups())
        supervisor.start("probe", Prober(state=state, upstreams=upstreams).run)
        supervisor.start("shadow", proxy.shadow.run)
        if tls:
            supervisor.start("public TLS", partial(tls.follow, hung_up.certificate))
        if member is None:
            supervisor.start("follow", partial(parts.follow_table, settings, state, hung_up.table))
        else:
            supervisor.start("membership", member.membership.run)
            url = parts.url(settings, address)
            supervisor.start("follow", partial(member.follow, locator, url))
        on_listening((address, admin_address))
        await parts.until(stop, state.name, address, admin_address)
