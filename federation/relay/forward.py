"""One request to one upstream: sent once, and answered as a stream or by an error with its story.

Input: an Outgoing request. Output: an Upstream, whose body comes as the far end sends it; or one
of the ForwardErrors of `failures`. Nothing is ever sent a second time here. Leaving before the
answer's end, a cancelled caller included, closes the connection: that tells the far end to stop.

Connections made with an older TLS context are never used again: what runs on them ends in peace.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType

from federation.contract.errors import FederationError
from federation.relay.failures import (
    BrokenMidway,
    ConnectFailed,
    Deadlines,
    ForwardError,
    Phase,
    Refused,
    SentNoAnswer,
    TimedOut,
    Vet,
)
from federation.relay.http1.client import ClientConnection, Exchange
from federation.relay.http1.exchange import Upstream
from federation.relay.outgoing import Outgoing, Place, place_of, send
from federation.relay.pool import DialledStock, Origin, Stock
from federation.relay.transport import Dialler

__all__ = [
    "BrokenMidway",
    "Channel",
    "ConnectFailed",
    "Deadlines",
    "Exchange",
    "ForwardError",
    "Forwarder",
    "Outgoing",
    "Phase",
    "PoolLimits",
    "Refused",
    "Sending",
    "SentNoAnswer",
    "TimedOut",
    "Upstream",
    "Vet",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """For how long idle connections are kept (shorter than servers do)."""

    keepalive_s: float = 15.0


class Forwarder:
    """Pools of connections to upstreams. Made anywhere, it opens with the first request.

    `tls` gives the context to dial https with: a new object whenever credentials changed; what it
    raises (FederationError) fails a request before anything is sent. The server's certificate must
    carry `server_hostname` (empty = the host of the URL). `vet` is asked about that certificate
    whenever a connection is handed to a request. `stock` makes pools of other connections than
    dialled ones; it may be called again and again.
    """

    def __init__(
        self,
        *,
        deadlines: Deadlines | None = None,
        pool: PoolLimits | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        server_hostname: str = "",
        vet: Vet | None = None,
        stock: Callable[[], Stock] | None = None,
    ) -> None:
        self._deadlines = deadlines or Deadlines()
        self._limits = pool or PoolLimits()
        self._tls = tls
        self._server_hostname = server_hostname
        self._vet = vet
        self._make_stock = stock
        self._newest: _Pool | None = None
        self._older: set[_Pool] = set()  # what runs on them may finish

    def __repr__(self) -> str:
        state = "open" if self._newest else "closed"
        return f"Forwarder({state}, running={self.running})"

    @property
    def running(self) -> int:
        """How many requests are under way."""
        return sum(pool.running for pool in self._pools())

    def retire(self) -> None:
        """Let what runs finish; connections are closed as soon as they are idle."""
        if self._newest:
            self._older.add(self._newest)
            self._newest = None
        for pool in [pool for pool in self._older if not pool.running]:
            self._close_if_done(pool)

    def sever(self, why: Vet) -> int:
        """Break the TLS connections about which `why` has something to say; return how many.

        What runs on them ends with a ForwardError.
        """
        return sum(stock.sever(why) for pool in self._pools() for stock in pool.stocks.values())

    def hurry(self, left_s: float) -> int:
        """Let no answer that has begun pause for longer than this; return how many there are. One
        that goes on may pause again as before."""
        found = [
            one
            for pool in self._pools()
            for stock in pool.stocks.values()
            for one in stock.exchanges()
            if isinstance(one, Upstream)
        ]
        for one in found:
            one.hurry(left_s)
        return len(found)

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        pools = self._pools()
        for pool in pools:
            self._close(pool)
        for pool in pools:
            for stock in pool.stocks.values():
                await stock.closed()

    def send(self, outgoing: Outgoing, *, deadlines: Deadlines | None = None) -> "Sending":
        """Send a request and hold its answer: an async context; raises as `start` does."""
        return Sending(self.start(outgoing, deadlines))

    async def start(
        self,
        outgoing: Outgoing,
        deadlines: Deadlines | None = None,
        *,
        probe: bool = False,
        waiting: "set[Exchange] | None" = None,
    ) -> Upstream:
        """Send a request and return its answer when the head has come; the caller closes it.

        As long as it waits, the exchange is among `waiting`. Raises ForwardError; an error that a
        streamed body raises comes out as it is.
        """
        limits = deadlines or self._deadlines
        place = place_of(outgoing.url)
        pool = self._current()
        stock = pool.stock(place, self)
        pool.running += 1
        upstream: Upstream | None = None
        try:
            first_byte_s = limits.first_byte_s
            connection = stock.take_now(probe=probe)
            if connection is None:
                loop = asyncio.get_running_loop()
                began_s = loop.time()
                connect_s = min(limits.connect_s, first_byte_s)
                connection = await stock.take(connect_s, probe=probe)
                first_byte_s = max(first_byte_s - (loop.time() - began_s), 0.001)
            upstream = Upstream(
                connection,
                lambda _, done: self.ended(pool, stock, done),
                first_byte_s=limits.first_byte_s,
                idle_s=limits.idle_s,
                to_head=outgoing.method == "HEAD",
            )
            send(upstream, outgoing, place, stock.header())
        except BaseException:
            if upstream is None:
                self._left(pool)
            else:
                upstream.close()
            raise
        return await self.answered(pool, upstream, first_byte_s, waiting)

    async def answered(
        self,
        pool: "_Pool",
        upstream: Upstream,
        first_byte_s: float,
        waiting: "set[Exchange] | None",
    ) -> Upstream:
        """Wait until the head has come."""
        if waiting is not None:
            waiting.add(upstream)
        try:
            await upstream.answered(first_byte_s)
            pool.proven = True
        except BaseException as error:
            upstream.close()
            if type(error) is SentNoAnswer and not pool.proven:
                raise SentNoAnswer(f"{error}{_SUSPICION}") from None
            raise
        finally:
            if waiting is not None:
                waiting.discard(upstream)
        return upstream

    def channel(self, url: str) -> "Channel":
        """Return the connections to where `url` leads, for requests without a coroutine; raises
        ConnectFailed."""
        pool = self._current()
        return Channel(self, pool, pool.stock(place_of(url), self))

    def dialler(self, url: str) -> Dialler:
        """Return what makes connections for other protocols to where `url` leads; raises
        ConnectFailed. To be asked anew for each connection: credentials may have changed."""
        stock = self._current().stock(place_of(url), self)
        if not isinstance(stock, Dialler):
            raise ConnectFailed("its connections carry HTTP/1.1 only")
        return stock

    # ------------------------------------------------------------ pools

    def ended(self, pool: "_Pool", stock: Stock, connection: ClientConnection) -> None:
        """An exchange gives up its connection."""
        stock.give_back(connection)
        self._left(pool)

    def _left(self, pool: "_Pool") -> None:
        pool.running -= 1
        if not pool.running:
            self.at_rest(pool)

    def at_rest(self, pool: "_Pool") -> None:
        """Nothing runs on the connections of a pool: close it, if another has taken its place."""
        if pool in self._older:
            self._close_if_done(pool)

    def is_current(self, pool: "_Pool") -> bool:
        """Return whether new requests may use a pool's connections."""
        if self._tls is None:
            return pool is self._newest
        try:
            return pool is self._current()
        except ConnectFailed:
            return False

    def _current(self) -> "_Pool":
        try:
            context = self._tls() if self._tls else None
        except FederationError as error:
            raise ConnectFailed(error.message) from None
        if self._newest is not None and self._newest.context is not context:
            self.retire()
        if self._newest is None:
            self._newest = _Pool(context)
        return self._newest

    def make_stock(self, place: Place, context: ssl.SSLContext | None) -> Stock:
        """Return a new stock of connections to a place."""
        if self._make_stock:
            return self._make_stock()
        if place.secure and context is None:
            context = ssl.create_default_context()
        origin = Origin(
            place.host, place.port, context if place.secure else None, self._server_hostname
        )
        return DialledStock(origin, keepalive_s=self._limits.keepalive_s, vet=self._vet)

    def _pools(self) -> list["_Pool"]:
        return [*self._older, *([self._newest] if self._newest else [])]

    def _close_if_done(self, pool: "_Pool") -> None:
        """Close a pool that is idle; another protocol on its connections ends by itself."""
        if not any(stock.carries for stock in pool.stocks.values()):
            self._close(pool)

    def _close(self, pool: "_Pool") -> None:
        self._older.discard(pool)
        if pool is self._newest:
            self._newest = None
        for stock in pool.stocks.values():
            stock.close()


_SUSPICION = " (perhaps it does not accept our certificate)"


class _Pool:
    """Connections made with one TLS context. A server may refuse us without a word: as long as none
    that saw our certificate has answered, a connection that breaks may mean that."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.context = context
        self.running = 0
        self.proven = context is None
        self.stocks: dict[tuple[bool, str, int], Stock] = {}

    def stock(self, place: Place, forwarder: Forwarder) -> Stock:
        """Return the connections to one place."""
        key = (place.secure, place.host, place.port)
        if (found := self.stocks.get(key)) is None:
            found = self.stocks[key] = forwarder.make_stock(place, self.context)
        return found


class Channel:
    """The connections to one place, for requests without a coroutine. What `take` gives is given
    back by `release` or `resume`, once."""

    __slots__ = ("_forwarder", "_pool", "stock")

    def __init__(self, forwarder: Forwarder, pool: _Pool, stock: Stock) -> None:
        self._forwarder = forwarder
        self._pool = pool
        self.stock = stock

    def __repr__(self) -> str:
        return f"Channel({self.stock})"

    @property
    def is_current(self) -> bool:
        """Whether new requests may still go this way; else another channel is to be asked for."""
        return self._forwarder.is_current(self._pool)

    def take(self) -> ClientConnection | None:
        """Return a connection that is there, for one exchange; None if there is none now."""
        pool = self._pool
        if not self._forwarder.is_current(pool):
            return None
        connection = self.stock.take_now(probe=False)
        if connection is not None:
            pool.running += 1
        return connection

    def release(self, connection: ClientConnection) -> None:
        """Take a connection back, on which a request was answered."""
        pool = self._pool
        connection.exchange = None
        connection.proven = pool.proven = True
        self.stock.give_back(connection)
        pool.running -= 1
        if not pool.running:
            self._forwarder.at_rest(pool)

    def resume(self, connection: ClientConnection, deadlines: Deadlines) -> Upstream:
        """Return what is under way on a connection, to be waited for by `answered`."""
        return Upstream(
            connection, self._ended, first_byte_s=deadlines.first_byte_s, idle_s=deadlines.idle_s
        ).sent_already()

    async def answered(
        self, upstream: Upstream, waiting: "set[Exchange]", first_byte_s: float
    ) -> Upstream:
        """Wait as `Forwarder.start` does for the answer to what was resumed."""
        return await self._forwarder.answered(self._pool, upstream, first_byte_s, waiting)

    def _ended(self, _: Upstream, connection: ClientConnection) -> None:
        self._forwarder.ended(self._pool, self.stock, connection)


class Sending:
    """A request under way, as an async context that holds its answer. `start` is the wait for its
    head."""

    __slots__ = ("_start", "_upstream")

    def __init__(self, start: Awaitable[Upstream]) -> None:
        self._start = start
        self._upstream: Upstream | None = None

    async def __aenter__(self) -> Upstream:
        self._upstream = await self._start
        return self._upstream

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._upstream is not None:
            self._upstream.close()
