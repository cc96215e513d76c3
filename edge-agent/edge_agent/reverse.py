"""Connections that this agent makes to the routers, to serve requests on them.

Input: the list of routers (`use`), the application of the gateway. Output: the application served
on connections that were dialled, not accepted: nothing of the gateway listens. How many there are,
`policy/reversing` decides; `reverse_line` keeps those of one router.

A new certificate moves everything to new connections: the old ones finish what they do, and idle
ones are given up once they are replaced.
"""

import asyncio
import logging
import os
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from edge_agent.policy.reversing import StockLimits, Supply
from edge_agent.reverse_line import Connection, Line
from federation.contract.errors import FederationError, Invalid, PermissionDenied
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import RouterAddress
from federation.relay.application import Application
from federation.relay.http1.messages import Request, StreamResponse
from federation.relay.http1.server import ServerConnection
from federation.relay.reversal import ALPN, agreed, keep_open, waiting
from federation.relay.server import ServerLimits, make_runner
from federation.relay.transport import Inbound, Switched, Takeover
from federation.runtime.backoff import Dice
from federation.runtime.clock import Clock
from federation.trust.credentials import Credentials, Leaf
from federation.trust.peers import Peer, check_peer, peer_from_ssl

log = logging.getLogger(__name__)

_FOR_GOOD_S = 30 * 86400.0  # the server must not close idle connections: `policy/reversing` does
_REVIEW_S = 1.0
_LEAST_S = 0.01
_OLD_AT = (0.65, 0.8)  # share of a router certificate's rest of life after which to replace


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseSettings:
    """`connect_to` maps an advertised HOST:PORT to the one to dial instead (tests, emulators)."""

    stock: StockLimits = field(default_factory=StockLimits)
    connect_to: Mapping[str, str] = field(default_factory=dict)
    connect_s: float = 5.0
    server: ServerLimits = field(
        default_factory=lambda: ServerLimits(keepalive_s=_FOR_GOOD_S, shutdown_s=1.0)
    )


class ReverseDialler:
    """Holds connections open to all routers. Use: `await start()`, then `run()` as a task, `use()`
    with each new list of routers, at last `await close()`.

    `application` is the gateway's, before it is set up; it is cleaned up with this.
    """

    def __init__(
        self,
        application: Application,
        *,
        credentials: Credentials,
        clock: Clock,
        dice: Dice,
        settings: ReverseSettings | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._credentials = credentials
        self._clock = clock
        self._dice = dice
        self._settings = settings or ReverseSettings()
        application.on_request.append(self._watch)
        if application.on_h2 is not None:
            application.on_h2 = self._watched(application.on_h2)
        application.on_response.append(self._part)
        self._runner = make_runner(application, self._settings.server)
        self._lines: dict[tuple[str, int], Line] = {}  # by router and its number there
        self._leaving: list[Line] = []  # of routers that left the list
        self._serving: dict[ServerConnection, Connection] = {}
        self._kicked = asyncio.Event()
        self._dials: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._review_s = float("-inf")  # when all connections are looked at again
        registry = registry or CollectorRegistry()
        self._dialled = CounterMetric(
            "fed_reverse_dials",
            "Connections to routers that were tried.",
            ["router", "outcome"],
            registry=registry,
        )
        registry.register(_LinesCollector(self))

    def __repr__(self) -> str:
        return f"ReverseDialler({', '.join(map(repr, self._lines.values())) or 'no routers'})"

    @property
    def lines(self) -> tuple[Line, ...]:
        """The connections of each router on the list, by name; one that is several processes has
        as many addresses, and a line for each."""
        return tuple(line for _, line in sorted(self._lines.items()))

    def use(self, routers: Iterable[RouterAddress]) -> None:
        """Hold connections to these routers from now on, and give up those to others."""
        wanted = {
            (router.name, number): address
            for router in routers
            for number, address in enumerate(router.reverse_address.split(","))
        }
        for key in self._lines.keys() - wanted.keys():
            line = self._lines.pop(key)
            line.supply.wanted = False
            self._leaving.append(line)
        for key, address in wanted.items():
            if key not in self._lines:
                self._lines[key] = self._line(key[0], address)
            elif self._lines[key].address != address:
                self._lines[key].replace_all(address)
        self._kicked.set()

    async def start(self) -> None:
        """Get ready to serve."""
        await self._runner.setup()
        self._credentials.on_change.append(self._changed)

    async def run(self) -> None:
        """Keep up the connections until cancelled."""
        while True:
            self._kicked.clear()
            wait_s = self._decide()
            try:
                async with asyncio.timeout(wait_s):
                    await self._kicked.wait()
            except TimeoutError:
                pass

    async def close(self, grace_s: float = 10.0) -> None:
        """Give up what is idle, let what runs end within `grace_s`, then end it."""
        self._stopping = True
        self.use(())
        if self._changed in self._credentials.on_change:
            self._credentials.on_change.remove(self._changed)
        for connection in list(self._serving.values()):
            if connection.busy:
                connection.inner.drain()
        dials = list(self._dials)
        for dial in dials:
            dial.cancel()
        await asyncio.gather(*dials, return_exceptions=True)
        try:
            async with asyncio.timeout(grace_s):
                while self._leaving:
                    self._kicked.clear()
                    self._decide()
                    if self._leaving:
                        await self._kicked.wait()
        except TimeoutError:
            log.warning("still busy after %g s: %r", grace_s, self._leaving)
        await self._runner.cleanup()

    # ------------------------------------------------------------ deciding and doing

    def _line(self, name: str, address: str) -> Line:
        return Line(
            name=name,
            address=address,
            supply=Supply(dice=self._dice, limits=self._settings.stock),
            now=self._clock.monotonic_s,
            kick=self._kicked.set,
        )

    def _decide(self) -> float:
        """Bring every line to where it should be; return after how many seconds to look again."""
        now, again_s = self._clock.monotonic_s(), float("inf")
        if review := now >= self._review_s:
            self._review_s = now + _REVIEW_S
        for line in (*self._lines.values(), *self._leaving):
            if review:
                line.review(self._credentials.leaf)
            plan = line.supply.decide(line.stock(), now)
            line.give_up(plan.give_up, old=False)
            line.give_up(plan.give_up_old, old=True)
            for _ in range(plan.dial):
                self._begin_dial(line)
            again_s = min(again_s, plan.again_s - now)
        self._leaving = [line for line in self._leaving if line.all or line.dialling]
        return min(max(again_s, _LEAST_S), _REVIEW_S)

    def _begin_dial(self, line: Line) -> None:
        line.dialling += 1
        dial = asyncio.get_running_loop().create_task(self._dial(line))
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)

    async def _dial(self, line: Line) -> None:
        dialled_s, refused = self._clock.monotonic_s(), False
        try:
            async with asyncio.timeout(self._settings.connect_s):
                problem = await self._connect(line)
                refused = bool(problem)
        except TimeoutError:
            problem = f"no connection within {self._settings.connect_s:g} s"
        except FederationError as error:
            problem, refused = error.message, True
        except ssl.SSLError as error:
            problem = f"TLS fails: {error.reason or error}"
            refused = not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        except OSError as error:
            problem = f"cannot connect: {_words(error)}"
        finally:
            line.dialling -= 1
            self._kicked.set()
        outcome = "refused" if refused else "failed" if problem else "connected"
        self._dialled.labels(line.name, outcome).inc()
        if problem:
            line.failed(problem, dialled_s, refused=refused)

    async def _connect(self, line: Line) -> str:
        """Make one connection; return why the far end is none to serve, "" if it is."""
        leaf, trust = self._credentials.require()
        name = PeerId(trust.trust_domain, PeerRole.ROUTER, line.name)
        address = self._settings.connect_to.get(line.address, line.address)
        host, _, port = address.rpartition(":")
        if not (host and port.isdigit()):
            raise Invalid(f"{address!r} is not an address.")
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: self._make(line, leaf),
            host.strip("[]"),
            int(port),
            ssl=self._credentials.client_context(alpn=ALPN),
            server_hostname=name.dns_name,
            ssl_handshake_timeout=self._settings.connect_s,
            ssl_shutdown_timeout=2.0,
        )
        return connection.problem

    def _make(self, line: Line, leaf: Leaf) -> Connection:
        if self._runner.server is None:
            raise RuntimeError("start() was not called")
        handler = self._runner.server()

        def admit(transport: asyncio.Transport) -> Peer:
            peer = self._admit(transport)
            left_s = (peer.not_after - self._clock.utc()).total_seconds()
            low, high = _OLD_AT
            share = low + (high - low) * self._dice.random()
            connection.old_s = self._clock.monotonic_s() + left_s * share
            self._serving[handler] = connection
            return peer

        connection = Connection(line, handler, leaf, admit=admit, forget=self._forget)
        return connection

    def _admit(self, transport: asyncio.Transport) -> Peer:
        if self._stopping:
            raise PermissionDenied("this agent stops.")
        if not agreed(transport):
            raise PermissionDenied(f"the far end does not speak {ALPN!r}.")
        _, trust = self._credentials.require()
        peer = peer_from_ssl(transport.get_extra_info("peercert"))
        check_peer(peer, PeerRole.ROUTER, trust=trust, now=self._clock.utc())
        keep_open(transport)
        return peer

    def _forget(self, connection: Connection) -> None:
        self._serving.pop(connection.inner, None)

    def _changed(self) -> None:
        """Credentials changed: break what leads to a revoked router, replace what is outdated."""
        trust = self._credentials.trust
        for connection in list(self._serving.values()):
            peer = connection.peer
            if peer and trust and trust.refuses(peer.id.uri, peer.generation):
                connection.abort()
        for line in self._lines.values():
            line.supply.forgive()
        self._review_s = float("-inf")
        self._kicked.set()

    # ------------------------------------------------------------ requests

    def _watch(self, request: Request) -> Callable[[], None] | None:
        connection = self._serving.get(request.connection)
        if connection is None:
            return None
        connection.line.began(connection, waiting(request.headers))
        return lambda: connection.line.ended(connection)

    def _watched(self, takeover: Takeover) -> Takeover:
        """Return a takeover whose connections are busy until they end: they carry many calls."""

        def take(inbound: Inbound) -> Switched:
            connection = next((c for s, c in self._serving.items() if s is inbound), None)
            if connection is not None:
                connection.line.began(connection, 0)
            return takeover(inbound)

        return take

    def _part(self, request: Request, response: StreamResponse) -> None:
        """Let the answer end a connection that was given up as its request came."""
        connection = self._serving.get(request.connection)
        if connection and connection.leaving:
            response.force_close()


def _words(error: OSError) -> str:
    # asyncio's own text repeats the address.
    return os.strerror(error.errno).lower() if error.errno else str(error) or type(error).__name__


class _LinesCollector(Collector):
    """Shows the connections at /metrics."""

    def __init__(self, dialler: ReverseDialler) -> None:
        self._dialler = dialler

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield one gauge with a sample for each router and state."""
        gauge = GaugeMetricFamily(
            "fed_reverse_connections", "Connections to routers.", labels=["router", "state"]
        )
        counts: Counter[tuple[str, str]] = Counter()
        for line in self._dialler.lines:
            stock = line.stock()
            for state in ("idle", "old", "busy", "leaving", "dialling"):
                counts[line.name, state] += getattr(stock, state)
        for (name, state), count in counts.items():
            gauge.add_metric([name, state], count)
        yield gauge
