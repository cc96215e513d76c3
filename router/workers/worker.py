"""One worker of a router: the whole request path, without a control plane of its own.

Input: the keeper's orders over a socket (`frames`), clients on an address that all workers share.
Output: answers to clients; reports and answers to the keeper. It ends when it is told to, or when
the keeper is gone: no more connections then, and what is in flight is finished.
"""

import asyncio
import contextlib
import itertools
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from zlib import crc32

from federation.contract.errors import FederationError, Invalid
from federation.relay.runner import RelayRunner
from federation.relay.server import listen, make_runner, require_compiled_parser
from federation.runtime.clock import Clock, SystemClock
from federation.runtime.supervise import Supervisor
from federation.runtime.telemetry import set_up_logging
from federation.trust.credentials import Credentials
from router import parts
from router.limits import public_limits
from router.membership.applying import Applier
from router.metrics.connections import ConnectionCollector
from router.metrics.requests import Metrics
from router.policy.table import Reach
from router.probe import Prober
from router.settings import public_tls
from router.upstream.reverse import ReversePool
from router.workers import frames
from router.workers.answering import Answers
from router.workers.link import Link, attach
from router.workers.places import shared
from router.workers.reporting import Reporter
from router.workers.shares import of_one

log = logging.getLogger(__name__)
REPORT_EVERY_S = 1.0
_MEASURED_EVERY = 5  # reports


def main(argv: Sequence[str]) -> None:
    """Run a worker. Of three file descriptors the first leads to its keeper, the second is what it
    listens on for clients, the third for agents; `-` = there is none. Exit 0 after a graceful stop,
    1 cannot run, 2 bad settings."""
    keeper, clients, agents = (None if fd == "-" else socket.socket(fileno=int(fd)) for fd in argv)
    if keeper is None:
        raise ValueError("a worker needs a keeper")
    sys.exit(work(keeper, Inherited(clients, agents)))


def work(keeper: socket.socket, inherited: "Inherited") -> int:
    """Run a worker in this process, and return with which code it shall exit: see `main`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the keeper passes it on, to whom it concerns
    try:
        parts.set_up_memory()
        with asyncio.Runner(loop_factory=parts.loop_factory()) as runner:
            runner.run(_run(keeper, inherited))
    except FederationError as error:
        sys.stderr.write(f"fed-router: {error.sentence()}\n")
        return 2 if isinstance(error, Invalid) else 1
    return 0


async def _run(keeper: socket.socket, inherited: "Inherited") -> None:
    link = await attach(keeper, frames.order)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, link.put, frames.Stop())
    try:
        async for welcome in link:
            if isinstance(welcome, frames.Welcome):
                set_up_logging(f"router/{welcome.index}", level=welcome.settings.log_level)
                await serve(welcome, link, inherited=inherited)
            return
    finally:
        await link.close()


async def serve(
    welcome: frames.Welcome,
    link: Link[frames.Order],
    *,
    inherited: "Inherited",
    clock: Clock | None = None,
) -> None:
    """Do as the keeper says until it says Stop or is gone; raises FederationError."""
    require_compiled_parser()
    async with contextlib.AsyncExitStack() as stack:
        worker = Worker(welcome, link, inherited, stack, clock or SystemClock())
        async for message in link:
            match message:
                case frames.Go():
                    await worker.open()
                case frames.Stop():
                    break
                case _:
                    await worker.obey(message)
        log.info("worker %d of router %s stops", welcome.index, welcome.settings.name)


@dataclass(frozen=True, slots=True)
class Inherited:
    """Sockets to listen on: for clients (None = one of its own), for agents (None = for none)."""

    clients: socket.socket | None = None
    agents: socket.socket | None = None


class Worker:
    """What answers clients, and does as it is told."""

    def __init__(
        self,
        welcome: frames.Welcome,
        link: Link[frames.Order],
        inherited: Inherited,
        stack: contextlib.AsyncExitStack,
        clock: Clock,
    ) -> None:
        settings = of_one(welcome.settings, welcome.of)
        self._welcome, self._link, self._stack = welcome, link, stack
        self._inherited = inherited
        self._door = inherited.agents  # until it is open
        self._standing = frames.Standing()
        self.state = state = parts.make_state(settings, clock)
        state.share = 1.0 / welcome.of
        state.signals.seed = crc32(f"{settings.name}/{welcome.index}".encode())
        self._credentials = Credentials(None)
        self._reverse: ReversePool | None = None
        if welcome.secure:
            state.credentials = self._credentials
            state.membership_problem = lambda: self._standing.problem
            if inherited.agents is not None:
                self._reverse = ReversePool(self._credentials, clock=clock)
            state.reach = Reach(secure=True, reverse=self._reverse is not None)
        self._tls = public_tls(settings)
        self._changed = asyncio.Event()  # perhaps, what clients are shown
        self._supervisor = Supervisor()
        self._locator = parts.make_locator(settings, stack)
        self._upstreams = parts.make_upstreams(
            settings, state, stack, state.credentials, self._reverse
        )
        if self._reverse is not None:
            stack.push_async_callback(self._reverse.close)
        metrics = Metrics(state)
        self._proxy = parts.make_proxy(settings, state, self._upstreams, metrics, self._locator)
        stack.push_async_callback(self._supervisor.stop)
        self._public: RelayRunner = make_runner(
            parts.make_application(self._proxy, stack), public_limits(settings)
        )
        metrics.registry.register(ConnectionCollector(self._public.open, self._reverse))
        self._applier = Applier(state)
        self._reporter = Reporter(state, metrics, link)
        self._answers = Answers(state, self._locator)

    def __repr__(self) -> str:
        return f"Worker({self._welcome.index} of {self._welcome.of}, {self.state})"

    async def open(self) -> None:
        """Serve clients from now on."""
        self._stack.push_async_callback(self._reporter.report)  # after the last answer, as is
        self._stack.callback(self._reporter.measure)
        self._stack.push_async_callback(self._public.cleanup)
        where = self._inherited.clients or shared(self._welcome.address)
        address = await listen(self._public, where, self._tls.context if self._tls else None)
        start = self._supervisor.start
        start("probe", Prober(state=self.state, upstreams=self._upstreams).run)
        start("shadow", self._proxy.shadow.run)
        start("report", self._report)
        if self._tls:
            start("public TLS", partial(self._tls.follow, self._changed))
        self._link.send(frames.Up(address))

    async def obey(self, message: frames.Order) -> None:
        """Do as the keeper says."""
        match message:
            case frames.Table():
                await self._route_by(message)
            case frames.Identity():
                self._become(message)
                await self._open_door()
            case frames.Standing():
                self._stand(message)
            case frames.Ask(what="report"):
                await self._reporter.report()
                self._link.send(frames.Answer(message.id))
            case frames.Ask(what="metrics"):
                self._reporter.measure()
                self._link.send(frames.Answer(message.id))
            case frames.Ask():
                self._link.send(self._answers.answer(message))
            case frames.Reload():
                self._changed.set()
            case frames.Portion():
                now_s = self.state.clock.monotonic_s()
                self._proxy.shared().quotas.divide(message.tenants, now_s)
            case frames.Welcome() | frames.Go() | frames.Stop():
                raise Invalid(f"A worker at work cannot take {message!r}.")

    async def _route_by(self, table: frames.Table) -> None:
        try:
            await self._applier.apply(table.data)
        except Invalid as error:
            log.error("the old table stays in use: %s", error.sentence())  # noqa: TRY400
            self._link.send(frames.Applied(table.number, error.sentence()))
        else:
            self._link.send(frames.Applied(table.number))

    def _become(self, identity: frames.Identity) -> None:
        held = self._credentials
        if held.leaf is None or held.leaf.certificate != identity.certificate:
            held.install(identity.certificate, identity.key, trust=identity.trust)
        else:
            held.keep_trust(identity.trust)

    async def _open_door(self) -> None:
        """Let agents dial this worker, once it has something to show them."""
        door, self._door = self._door, None
        if door is not None and self._reverse is not None:
            address = await self._reverse.listen(door)
            log.info("agents may connect to %s", parts.join(address))

    def _stand(self, standing: frames.Standing) -> None:
        state, self._standing = self.state, standing
        state.revoked = standing.revoked
        told = self._reporter.urge in state.on_demand
        if standing.in_contact and not told:
            state.on_demand.append(self._reporter.urge)
        elif told and not standing.in_contact:
            state.on_demand.remove(self._reporter.urge)

    async def _report(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(REPORT_EVERY_S)
            await self._reporter.report()
            if number % _MEASURED_EVERY == 0:
                self._reporter.measure()
