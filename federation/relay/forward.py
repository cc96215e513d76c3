"""One request to one upstream: sent once, and answered as a stream or by an error with its story.

Input: an Outgoing request. Output: an Upstream, whose chunks come as the far end sends them; or one
of four ForwardErrors that tell how far it got. Nothing is sent a second time here: a caller that
wants another try reads `may_have_run` and `answer_began` and decides. (aiohttp would repeat a GET,
never a POST, on a reused connection that turns out to be dead.) Leaving the context before the
answer's end, a cancelled caller included, closes the connection: that tells the far end to stop.

Connections made with an older TLS context are never used again: what runs on them ends in peace.
"""

import asyncio
import contextlib
import ssl
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from federation.contract.errors import FederationError
from federation.relay.pool import (
    DiallingConnector,
    Refused,
    Vet,
    VettedConnector,
    refused_by_peer,
    words,
)

PIECE_BYTES = 32 * 1024  # of an answer at once: a client that does not read holds a few of them
_UNWANTED = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each phase may take, in seconds.

    `first_byte_s` runs from the start of the request, its body included, to the answer's head.
    """

    connect_s: float = 1.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How many connections are kept, and for how long idle ones are (shorter than servers do)."""

    connections: int = 0  # 0 = as many as requests are in flight
    keepalive_s: float = 15.0


class Phase(StrEnum):
    """Where the time ran out."""

    CONNECT = "connect"
    FIRST_BYTE = "first-byte"
    IDLE = "idle"


class ForwardError(Exception):
    """The upstream did not give a whole answer; the argument says why, in words."""

    may_have_run = True  # whether the far end may have executed the request
    answer_began = False  # whether a byte of an answer was seen


class ConnectFailed(ForwardError):
    """No connection: nothing was executed."""

    may_have_run = False


class SentNoAnswer(ForwardError):
    """The connection broke after sending began, before an answer."""


class BrokenMidway(ForwardError):
    """The answer broke off before its end."""

    answer_began = True


class TimedOut(ForwardError):
    """A phase took too long; `phase` tells which."""

    def __init__(self, phase: Phase, seconds: float) -> None:
        super().__init__(f"no {_AWAITED[phase]} within {seconds:g} s")
        self.phase = phase
        self.may_have_run = phase is not Phase.CONNECT
        self.answer_began = phase is Phase.IDLE


_AWAITED = {
    Phase.CONNECT: "connection",
    Phase.FIRST_BYTE: "answer",
    Phase.IDLE: "further byte of the answer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A request as it goes out. A streamed body has its length in `length`, or is sent chunked."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterable[bytes] = b""
    length: int | None = None


class Upstream:
    """The answer of an upstream: head now, body as it comes."""

    def __init__(self, response: aiohttp.ClientResponse, sent: "_Body", idle_s: float) -> None:
        self.status = response.status
        self.headers: CIMultiDictProxy[str] = response.headers
        self._response = response
        self._sent = sent
        self._idle_s = idle_s

    def __repr__(self) -> str:
        return f"Upstream({self.status} from {self._response.url.authority})"

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in the pieces in which it arrives; raises BrokenMidway or TimedOut."""
        content = self._response.content
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    chunk = await content.read(PIECE_BYTES)
            except TimeoutError:
                raise TimedOut(Phase.IDLE, self._idle_s) from None
            except (aiohttp.ClientError, OSError) as error:
                raise self._sent.failure or BrokenMidway(words(error)) from None
            if not chunk:
                return
            yield chunk

    async def read(self, limit: int) -> bytes | None:
        """Return the rest of the body, or None if it is longer than `limit` bytes."""
        pieces, size = [], 0
        async for chunk in self.chunks():
            pieces.append(chunk)
            size += len(chunk)
            if size > limit:
                return None
        return b"".join(pieces)

    def close(self) -> None:
        """Give the connection back to the pool if both messages ended on it, else close it."""
        if self._sent.finished and self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class Forwarder:
    """Pools of connections to upstreams. Made anywhere, it opens with the first request.

    `tls` gives the context to dial https with: a new object whenever credentials changed; what it
    raises (FederationError) fails a request before anything is sent. The server's certificate must
    carry `server_hostname` (empty = the host of the URL). `vet` is asked about that certificate
    whenever a connection is handed to a request. `connector` makes pools of other connections than
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
        connector: Callable[[], VettedConnector] | None = None,
    ) -> None:
        self._deadlines = deadlines or Deadlines()
        self._limits = pool or PoolLimits()
        self._tls = tls
        self._server_hostname = server_hostname or None
        self._vet = vet
        self._connector = connector or self._dialling
        self._newest: _Pool | None = None
        self._older: set[_Pool] = set()  # what runs on them may finish
        self._closing: set[asyncio.Task[None]] = set()

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
            self._close(pool)

    def sever(self, why: Vet) -> int:
        """Break the TLS connections about which `why` has something to say; return how many.

        What runs on them ends with a ForwardError.
        """
        return sum(pool.connector.sever(why) for pool in self._pools())

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        for pool in self._pools():
            self._close(pool)
        await asyncio.gather(*self._closing)

    @asynccontextmanager
    async def send(
        self, outgoing: Outgoing, *, deadlines: Deadlines | None = None
    ) -> AsyncIterator[Upstream]:
        """Send a request and hold its answer; raises ForwardError.

        An error that a streamed body raises comes out as it is.
        """
        limits = deadlines or self._deadlines
        with self._pool() as pool:
            upstream = await self._start(pool, outgoing, limits)
            try:
                yield upstream
            finally:
                upstream.close()

    async def _start(self, pool: "_Pool", outgoing: Outgoing, limits: Deadlines) -> Upstream:
        body = _Body(outgoing)
        headers = CIMultiDict(outgoing.headers)
        if body.announced is not None:
            headers["Content-Length"] = str(body.announced)
        try:
            async with asyncio.timeout(limits.first_byte_s):
                response = await pool.session.request(
                    outgoing.method,
                    URL(outgoing.url, encoded=True),
                    headers=headers,
                    data=body.data,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s),
                    ssl=pool.context or True,
                    server_hostname=self._server_hostname,
                )
            pool.proven = True
            return Upstream(response, body, limits.idle_s)
        except aiohttp.ConnectionTimeoutError:
            raise TimedOut(Phase.CONNECT, limits.connect_s) from None
        except (aiohttp.ClientConnectorError, Refused) as error:
            raise ConnectFailed(words(error)) from None
        except TimeoutError:
            raise TimedOut(Phase.FIRST_BYTE, limits.first_byte_s) from None
        except (aiohttp.ClientError, OSError) as error:
            if why := refused_by_peer(error):
                raise ConnectFailed(why) from None
            raise body.failure or SentNoAnswer(words(error) + pool.suspicion) from None

    # ------------------------------------------------------------ pools

    @contextlib.contextmanager
    def _pool(self) -> Iterator["_Pool"]:
        """Hold the newest pool for a request; the last to leave an older one closes it."""
        pool = self._current()
        pool.running += 1
        try:
            yield pool
        finally:
            pool.running -= 1
            if pool in self._older and not pool.running:
                self._close(pool)

    def _current(self) -> "_Pool":
        try:
            context = self._tls() if self._tls else None
        except FederationError as error:
            raise ConnectFailed(error.message) from None
        if self._newest and self._newest.context is not context:
            self.retire()
        if self._newest is None:
            connector = self._connector()
            connector.vet = self._vet
            self._newest = _Pool(connector, context)
        return self._newest

    def _pools(self) -> list["_Pool"]:
        return [*self._older, *([self._newest] if self._newest else [])]

    def _close(self, pool: "_Pool") -> None:
        self._older.discard(pool)
        if pool is self._newest:
            self._newest = None
        task = asyncio.get_running_loop().create_task(pool.session.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _dialling(self) -> VettedConnector:
        return DiallingConnector(
            limit=self._limits.connections, keepalive_timeout=self._limits.keepalive_s
        )


class _Pool:
    """Connections made with one TLS context."""

    def __init__(self, connector: VettedConnector, context: ssl.SSLContext | None) -> None:
        self.connector = connector
        self.context = context
        self.running = 0
        self.proven = context is None  # whether a peer that saw our certificate has answered
        self.session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_UNWANTED,
            trust_env=False,
            raise_for_status=False,
            read_bufsize=PIECE_BYTES,
        )

    @property
    def suspicion(self) -> str:
        """What a connection that broke may also mean: servers may refuse us without a word."""
        return "" if self.proven else " (perhaps it does not accept our certificate)"


class _Body:
    """A body on its way out: whether it ended, and the error of its source if that failed."""

    def __init__(self, outgoing: Outgoing) -> None:
        self.failure: Exception | None = None
        self.finished = isinstance(outgoing.body, bytes)
        self.announced = None if self.finished else outgoing.length
        self._source = outgoing.body

    @property
    def data(self) -> bytes | AsyncIterator[bytes] | None:
        if isinstance(self._source, bytes):
            return self._source or None
        return self._watched(self._source)

    async def _watched(self, source: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in source:
                yield chunk
        except Exception as error:
            self.failure = error
            raise
        self.finished = True
