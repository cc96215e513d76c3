"""One request to one upstream: sent once, and answered as a stream or by an error with its story.

Input: an Outgoing request. Output: an Upstream, whose chunks come as the far end sends them; or one
of four ForwardErrors that tell how far it got. Nothing is sent a second time here: a caller that
wants another try reads `may_have_run` and `answer_began` and decides. (aiohttp would repeat a GET,
never a POST, on a reused connection that turns out to be dead.) Leaving the context before the
answer's end, a cancelled caller included, closes the connection: that tells the far end to stop.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

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
                    chunk = await content.readany()
            except TimeoutError:
                raise TimedOut(Phase.IDLE, self._idle_s) from None
            except (aiohttp.ClientError, OSError) as error:
                raise self._sent.failure or BrokenMidway(_words(error)) from None
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
    """A pool of connections to upstreams. Made anywhere, it opens with the first request."""

    def __init__(
        self, *, deadlines: Deadlines | None = None, pool: PoolLimits | None = None
    ) -> None:
        self._deadlines = deadlines or Deadlines()
        self._pool = pool or PoolLimits()
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Forwarder({'open' if self._session else 'closed'})"

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        session, self._session = self._session, None
        if session:
            await session.close()

    @asynccontextmanager
    async def send(
        self, outgoing: Outgoing, *, deadlines: Deadlines | None = None
    ) -> AsyncIterator[Upstream]:
        """Send a request and hold its answer; raises ForwardError.

        An error that a streamed body raises comes out as it is.
        """
        limits = deadlines or self._deadlines
        upstream = await self._start(outgoing, limits)
        try:
            yield upstream
        finally:
            upstream.close()

    async def _start(self, outgoing: Outgoing, limits: Deadlines) -> Upstream:
        body = _Body(outgoing)
        headers = CIMultiDict(outgoing.headers)
        if body.announced is not None:
            headers["Content-Length"] = str(body.announced)
        try:
            async with asyncio.timeout(limits.first_byte_s):
                response = await self._open().request(
                    outgoing.method,
                    URL(outgoing.url, encoded=True),
                    headers=headers,
                    data=body.data,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s),
                )
            return Upstream(response, body, limits.idle_s)
        except aiohttp.ConnectionTimeoutError:
            raise TimedOut(Phase.CONNECT, limits.connect_s) from None
        except aiohttp.ClientConnectorError as error:
            raise ConnectFailed(_words(error)) from None
        except TimeoutError:
            raise TimedOut(Phase.FIRST_BYTE, limits.first_byte_s) from None
        except (aiohttp.ClientError, OSError) as error:
            raise body.failure or SentNoAnswer(_words(error)) from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._pool.connections,
                    keepalive_timeout=self._pool.keepalive_s,
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_UNWANTED,
                trust_env=False,
                raise_for_status=False,
            )
        return self._session


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


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}:{error.port}"
    text = str(error) or type(error).__name__
    return text.splitlines()[0][:200]
