"""One request to one upstream: sent once, and answered as a stream or by an error with its story.

Input: an Outgoing request. Output: an Upstream, whose body comes as the far end sends it; or one
of the ForwardErrors of `failures`. Nothing is ever sent a second time here. Leaving before the
answer's end, a cancelled caller included, closes the connection: that tells the far end to stop.

Connections made with an older TLS context are never used again: what runs on them ends in peace.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
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
from federation.relay.http1.client import ClientConnection, Upstream
from federation.relay.http1.heads import BadMessage, write_head
from federation.relay.pool import DialledStock, Origin, Stock
from federation.relay.transport import Dialler

__all__ = [
    "BrokenMidway",
    "ConnectFailed",
    "Deadlines",
    "ForwardError",
    "Forwarder",
    "Outgoing",
    "Phase",
    "PoolLimits",
    "Refused",
    "SentNoAnswer",
    "TimedOut",
    "Upstream",
    "Vet",
]

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!-~]*)?"
)
_BODYLESS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """For how long idle connections are kept (shorter than servers do)."""

    keepalive_s: float = 15.0


@dataclass(slots=True, kw_only=True)  # not frozen: one is made for each attempt
class Outgoing:
    """A request as it goes out. A streamed body has its length in `length`, or is sent chunked."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] = b""
    length: int | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """A URL, taken apart."""

    secure: bool
    host: str
    port: int
    path: str
    authority: str


@lru_cache(maxsize=4096)
def _place(url: str) -> _Place:
    found = _URL.fullmatch(url)
    port = int(found["port"] or (443 if found["scheme"] == "https" else 80)) if found else 0
    if found is None or not 0 < port < 65536:
        raise ConnectFailed(f"its URL {url[:200]!r} cannot be dialled")
    authority = found["host"] + (f":{found['port']}" if found["port"] else "")
    host = found["host"].strip("[]")
    return _Place(found["scheme"] == "https", host, port, found["path"] or "/", authority)


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
        return Sending(self, outgoing, deadlines)

    async def start(
        self,
        outgoing: Outgoing,
        deadlines: Deadlines | None = None,
        *,
        probe: bool = False,
        waiting: "set[Upstream] | None" = None,
    ) -> Upstream:
        """Send a request and return its answer when the head has come; the caller closes it.

        As long as it waits, the exchange is among `waiting`. Raises ForwardError; an error that a
        streamed body raises comes out as it is.
        """
        limits = deadlines or self._deadlines
        place = _place(outgoing.url)
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
                lambda _, done: self._ended(pool, stock, done),
                first_byte_s=limits.first_byte_s,
                idle_s=limits.idle_s,
                to_head=outgoing.method == "HEAD",
            )
            if waiting is not None:
                waiting.add(upstream)
            try:
                _send(upstream, outgoing, place, stock.header())
                await upstream.answered(first_byte_s)
            finally:
                if waiting is not None:
                    waiting.discard(upstream)
            pool.proven = True
        except BaseException as error:
            if upstream is None:
                self._left(pool)
            else:
                upstream.close()
            if type(error) is SentNoAnswer and not pool.proven:
                raise SentNoAnswer(f"{error}{_SUSPICION}") from None
            raise
        return upstream

    def dialler(self, url: str) -> Dialler:
        """Return what makes connections for other protocols to where `url` leads; raises
        ConnectFailed. To be asked anew for each connection: credentials may have changed."""
        stock = self._current().stock(_place(url), self)
        if not isinstance(stock, Dialler):
            raise ConnectFailed("its connections carry HTTP/1.1 only")
        return stock

    # ------------------------------------------------------------ pools

    def _ended(self, pool: "_Pool", stock: Stock, connection: ClientConnection) -> None:
        stock.give_back(connection)
        self._left(pool)

    def _left(self, pool: "_Pool") -> None:
        pool.running -= 1
        if not pool.running and pool in self._older:
            self._close_if_done(pool)

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

    def make_stock(self, place: _Place, context: ssl.SSLContext | None) -> Stock:
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

    def stock(self, place: _Place, forwarder: Forwarder) -> Stock:
        """Return the connections to one place."""
        key = (place.secure, place.host, place.port)
        if (found := self.stocks.get(key)) is None:
            found = self.stocks[key] = forwarder.make_stock(place, self.context)
        return found


class Sending:
    """A request under way, as an async context that holds its answer."""

    __slots__ = ("_deadlines", "_forwarder", "_outgoing", "_upstream")

    def __init__(
        self, forwarder: Forwarder, outgoing: Outgoing, deadlines: Deadlines | None
    ) -> None:
        self._forwarder = forwarder
        self._outgoing = outgoing
        self._deadlines = deadlines
        self._upstream: Upstream | None = None

    async def __aenter__(self) -> Upstream:
        self._upstream = await self._forwarder.start(self._outgoing, self._deadlines)
        return self._upstream

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._upstream is not None:
            self._upstream.close()


def _send(
    upstream: Upstream, outgoing: Outgoing, place: _Place, told: tuple[str, str] | None
) -> None:
    body, method = outgoing.body, outgoing.method
    fields = [("Host", place.authority), *outgoing.headers.items()]
    if told is not None:
        fields.append(told)
    whole = isinstance(body, bytes)
    length = len(body) if isinstance(body, bytes) else outgoing.length
    if length is None:
        fields.append(("Transfer-Encoding", "chunked"))
    elif length or method not in _BODYLESS:
        fields.append(("Content-Length", str(length)))
    try:
        head = write_head(f"{method} {place.path} HTTP/1.1", fields)
    except BadMessage as error:
        raise ConnectFailed(str(error)) from None
    if isinstance(body, bytes):
        upstream.send(head, body)
    else:
        upstream.send_pieces(head, body, chunked=not whole and length is None)
