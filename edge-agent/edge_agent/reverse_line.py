"""The connections that this agent made to one router, and the state each one is in.

Input: transports as `reverse` dials them, requests as they begin and end on them. Output: counts
for the decider (`policy/reversing`), and what it decided, done: idle connections are given up.

A connection is idle, old (idle, to be replaced), busy, or leaving. One that leaves says GOODBYE and
lets the router close it: a request that is on its way already is served nevertheless.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from edge_agent.policy.reversing import Stock, Supply
from federation.contract.errors import FederationError
from federation.relay.http1.server import ServerConnection
from federation.relay.reversal import GOODBYE
from federation.trust.credentials import Leaf
from federation.trust.peers import Peer

log = logging.getLogger(__name__)

_FAREWELL_S = 5.0  # for the router to close what was given up
_HEARD_S = 1.0  # for how long a router's word on waiting requests counts


class Connection(asyncio.Protocol):
    """One connection to a router, with the protocol of our server (`inner`) on it.

    `admit` looks at the far end after the handshake: it returns who that is, or raises. `forget` is
    called at the end of a connection that was admitted.
    """

    def __init__(
        self,
        line: "Line",
        inner: ServerConnection,
        leaf: Leaf,
        *,
        admit: Callable[[asyncio.Transport], Peer],
        forget: Callable[["Connection"], None],
    ) -> None:
        self.line = line
        self.inner = inner
        self.leaf = leaf  # what we showed
        self.peer: Peer | None = None  # None = the handshake is not done, or was in vain
        self.opened_s = 0.0
        self.old_s = float("inf")  # when its certificates are near their end
        self.served = False
        self.busy = False
        self.leaving = False
        self.problem = ""
        self._admit = admit
        self._forget = forget
        self._transport: asyncio.Transport | None = None
        self._farewell: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = "busy" if self.busy else "leaving" if self.leaving else "idle"
        return f"Connection({self.peer.id.name if self.peer else 'nobody'}, {state})"

    # ------------------------------------------------------------ what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, if the far end is who it should be."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        try:
            self.peer = self._admit(self._transport)
        except FederationError as error:
            self.problem = error.message
            self._transport.abort()
            return
        self.inner.connection_made(transport)
        self.line.made(self)

    def data_received(self, data: bytes) -> None:
        """Hand on what the router sends."""
        if self.peer:
            self.inner.data_received(data)

    def eof_received(self) -> None:
        """Let the transport close."""
        if self.peer:
            self.inner.eof_received()

    def pause_writing(self) -> None:
        """Hand on that the router reads too slowly."""
        if self.peer:
            self.inner.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that the router reads again."""
        if self.peer:
            self.inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on the end."""
        if self._farewell:
            self._farewell.cancel()
        if self.peer:
            self._forget(self)
            self.inner.connection_lost(exc)
            self.line.lost(self)

    # ------------------------------------------------------------ what the line does

    def give_up(self) -> None:
        """Say goodbye; the router closes. Only for a connection on which nothing runs."""
        self.leaving = True
        if self._transport is None or self._farewell:
            return
        self._transport.write(GOODBYE)
        self._farewell = asyncio.get_running_loop().call_later(_FAREWELL_S, self._insist)

    def _insist(self) -> None:
        self._farewell = None
        if not self.busy:  # else its answer ends with "Connection: close"
            self.abort()

    def abort(self) -> None:
        """Break it now."""
        if self._transport is not None:
            self._transport.abort()


@dataclass(slots=True, kw_only=True)
class Heard:
    """A router's last word on how many requests wait for a connection."""

    waiting: int = 0
    at_s: float = float("-inf")


@dataclass(slots=True, kw_only=True)
class Line:
    """All connections to one router. `kick` asks for a decision; idle ones are in the order in
    which they became so."""

    name: str
    address: str
    supply: Supply
    now: Callable[[], float]
    kick: Callable[[], None]
    steady_s: float = 1.0  # who was taken in for so long was not refused
    dialling: int = 0
    problem: str = ""
    all: set[Connection] = field(default_factory=set)
    idle: dict[Connection, None] = field(default_factory=dict)
    old: dict[Connection, None] = field(default_factory=dict)
    leaving: set[Connection] = field(default_factory=set)
    heard: Heard = field(default_factory=Heard)

    def __repr__(self) -> str:
        why = f", {self.problem}" if self.problem else ""
        return f"Line({self.name} at {self.address}: {self.stock()}{why})"

    def stock(self) -> Stock:
        """Return the counts."""
        idle, old, leaving = len(self.idle), len(self.old), len(self.leaving)
        recent = self.now() - self.heard.at_s < _HEARD_S
        return Stock(
            idle=idle,
            old=old,
            busy=len(self.all) - idle - old - leaving,
            leaving=leaving,
            dialling=self.dialling,
            waiting=self.heard.waiting if recent else 0,
        )

    # ------------------------------------------------------------ connections

    def made(self, connection: Connection) -> None:
        """A connection is open, and idle."""
        connection.opened_s = self.now()
        self.supply.opened()
        if self.problem and not self.supply.failures:
            log.info("router %s at %s is reached again", self.name, self.address)
            self.problem = ""
        self.all.add(connection)
        self.idle[connection] = None

    def lost(self, connection: Connection) -> None:
        """A connection is closed, whoever did it. One that was closed soon and unused was refused:
        with TLS 1.3 a server says no only after the client's handshake is done."""
        self.all.discard(connection)
        self.leaving.discard(connection)
        self._pick_up(connection)
        soon = self.now() - connection.opened_s < self.steady_s
        if soon and not connection.served and not connection.leaving:
            self.failed("it closed the connection at once", connection.opened_s, refused=True)
        self.kick()

    def failed(self, problem: str, dialled_s: float, *, refused: bool) -> None:
        """A dial was in vain."""
        if problem != self.problem:
            log.warning("router %s at %s: %s", self.name, self.address, problem)
        self.problem = problem
        self.supply.failed(dialled_s=dialled_s, now=self.now(), refused=refused)

    def proved(self) -> None:
        """The router works with us."""
        self.problem = ""
        self.supply.proved()

    def began(self, connection: Connection, waiting: int) -> None:
        """A request begins."""
        connection.busy = connection.served = True
        self._pick_up(connection)
        if self.supply.failures:
            self.proved()
        if waiting or self.heard.waiting:
            self.heard.waiting, self.heard.at_s = waiting, self.now()
        if waiting or len(self.idle) < self.supply.least_idle:
            self.kick()

    def ended(self, connection: Connection) -> None:
        """A request ended, its answer is written."""
        connection.busy = False
        if connection not in self.all:
            return
        if connection.leaving or not self.supply.wanted:
            self._part(connection)
        else:
            self.idle[connection] = None

    def _pick_up(self, connection: Connection) -> None:
        self.idle.pop(connection, None)
        self.old.pop(connection, None)

    # ------------------------------------------------------------ looking after them

    def review(self, leaf: Leaf | None) -> None:
        """Note what lived long enough, and what has to be replaced."""
        now = self.now()
        if self.supply.failures and any(
            now - one.opened_s >= self.steady_s for one in self.all - self.leaving
        ):
            self.proved()
        for one in [c for c in self.idle if c.leaf is not leaf or now >= c.old_s]:
            del self.idle[one]
            self.old[one] = None

    def give_up(self, count: int, *, old: bool) -> None:
        """Give up the connections that were idle for the longest time."""
        stock = self.old if old else self.idle
        for connection in list(stock)[:count]:
            del stock[connection]
            self._part(connection)

    def _part(self, connection: Connection) -> None:
        self.leaving.add(connection)
        connection.give_up()

    def replace_all(self, address: str) -> None:
        """The router listens elsewhere now."""
        self.address = address
        for one in self.all:
            one.old_s = float("-inf")
