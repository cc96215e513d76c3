"""Connections to one origin, kept between requests.

Input: requests that want a connection. Output: connections, kept from before or dialled; or a
ConnectFailed or TimedOut, in which case nothing was sent. TLS checks a certificate in the handshake
only: that it has expired or was revoked since is found here, whenever a connection is handed out.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from federation.relay.failures import (
    ConnectFailed,
    ForwardError,
    Phase,
    Refused,
    TimedOut,
    Vet,
    no_connection,
)
from federation.relay.http1.client import ClientConnection, Exchange
from federation.relay.http1.waiting import Alarm, Pause
from federation.relay.transport import ProtocolFactory

FAREWELL_S = 2.0  # for the far end to end TLS after we did


class Stock(Protocol):
    """Where a pool's connections come from, and go back to."""

    def take_now(self, *, probe: bool) -> ClientConnection | None:
        """Return a connection that is there, None if somebody has to wait for one."""
        ...

    async def take(self, connect_s: float, *, probe: bool) -> ClientConnection:
        """Return a connection; raises ConnectFailed or TimedOut."""
        ...

    def give_back(self, connection: ClientConnection) -> None:
        """Take a connection back; one that is not fit for another exchange is closed."""
        ...

    def header(self) -> tuple[str, str] | None:
        """Return what the far end should be told with a request."""
        ...

    def sever(self, why: Vet) -> int:
        """Break the connections about which `why` has something to say, also those in use; return
        how many."""
        ...

    def exchanges(self) -> list[Exchange]:
        """Return what is under way on connections that came from here."""
        ...

    @property
    def carries(self) -> bool:
        """Whether another protocol is at work on a connection that came from here."""
        ...

    def close(self) -> None:
        """Close all connections that came from here."""
        ...

    async def closed(self) -> None:
        """Wait until they are."""
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where to dial. `context` is None without TLS; `name` must be in the certificate."""

    host: str
    port: int
    context: ssl.SSLContext | None = None
    name: str = ""

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{self.host}:{self.port}"


def vetted(connection: ClientConnection, vet: Vet | None) -> str:
    """Return why a connection may not be used, "" if it may."""
    transport = connection.transport
    if vet is None or transport is None or transport.is_closing():
        return ""
    certificate = transport.get_extra_info("peercert")
    return vet(certificate) if certificate else ""


class DialledStock:
    """Connections to one origin. The one used last is handed out first; those that stay idle for
    `keepalive_s` are closed."""

    def __init__(self, origin: Origin, *, keepalive_s: float, vet: Vet | None = None) -> None:
        self.origin = origin
        self._vet = vet
        self._keepalive_s = keepalive_s
        self._loop = asyncio.get_running_loop()
        self._idle: deque[ClientConnection] = deque()
        self._known: set[ClientConnection | _Foreign] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._sweep = Alarm(self._loop, self._close_idle)
        self._open = True

    def __repr__(self) -> str:
        return f"DialledStock({self.origin.address}, {len(self._known)} connections)"

    def take_now(self, *, probe: bool = False) -> ClientConnection | None:
        """Return the connection that was used last, if one is idle and may be used."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            transport = connection.transport
            if not (connection.should_close or transport is None or transport.is_closing()):
                if self.origin.context is None or not vetted(connection, self._vet):
                    return connection
                connection.close()
        return None

    async def take(self, connect_s: float, *, probe: bool = False) -> ClientConnection:
        """Return a connection, dialled if none is idle."""
        if (found := self.take_now()) is not None:
            return found
        made: list[asyncio.BaseProtocol] = []
        await self._dialled(lambda: _Dialled(self._known), connect_s, made)
        connection = cast(ClientConnection, made[0])
        if problem := vetted(connection, self._vet):  # another new one would show the same
            connection.close()
            raise Refused(problem)
        return connection

    def give_back(self, connection: ClientConnection) -> None:
        """Keep a connection for the next request."""
        transport = connection.transport
        unfit = connection.should_close or transport is None or transport.is_closing()
        if unfit or not self._open:
            connection.close()
            return
        connection.since_s = now_s = self._loop.time()
        idle = self._idle
        if not idle:
            self._sweep.set_at(now_s + self._keepalive_s)
        idle.append(connection)

    def header(self) -> tuple[str, str] | None:
        """Nothing is to be told."""
        return None

    def sever(self, why: Vet) -> int:
        """Break the TLS connections about which `why` has something to say."""
        broken = 0
        for one in list(self._known):
            transport = one.transport
            if transport is None or transport.is_closing():
                continue
            certificate = transport.get_extra_info("peercert")
            if certificate and why(certificate):
                transport.abort()
                broken += 1
        return broken

    def exchanges(self) -> list[Exchange]:
        """Return what is under way."""
        own = (one for one in self._known if isinstance(one, ClientConnection))
        return [one.exchange for one in own if one.exchange is not None]

    @property
    def carries(self) -> bool:
        """Whether another protocol is at work on a connection."""
        return any(isinstance(one, _Foreign) for one in self._known)

    def close(self) -> None:
        """Close what is idle, break what is in use."""
        self._open = False
        self._sweep.close()
        for dial in self._dials:
            dial.cancel()
        for one in list(self._known):
            if one.transport is not None:
                one.transport.abort()

    async def closed(self) -> None:
        """Wait until all are closed."""
        await asyncio.gather(*self._dials, return_exceptions=True)
        for _ in range(100):
            if not self._known:
                return
            await asyncio.sleep(0)

    # ------------------------------------------------------------ for other protocols

    async def connect(
        self, protocol_factory: ProtocolFactory, *, connect_s: float
    ) -> asyncio.Transport:
        """Return a connection of its own with another protocol on it (`transport.Dialler`)."""
        made: list[asyncio.BaseProtocol] = []
        await self._dialled(lambda: _Foreign(protocol_factory(), self._known), connect_s, made)
        transport = cast(_Foreign, made[0]).transport
        if transport is None:
            raise ConnectFailed(f"cannot connect to {self.origin.address}")
        certificate = transport.get_extra_info("peercert")
        if certificate and self._vet and (problem := self._vet(certificate)):
            transport.abort()
            raise Refused(problem)
        return transport

    def usable(self, transport: asyncio.Transport) -> bool:
        """Return whether a connection made by `connect` may carry another request."""
        if not self._open or transport.is_closing():
            return False
        certificate = transport.get_extra_info("peercert")
        return not (certificate and self._vet and self._vet(certificate))

    # ------------------------------------------------------------ inside

    async def _dialled(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        connect_s: float,
        made: list[asyncio.BaseProtocol],
    ) -> None:
        """Dial in a task of its own: who waits may have none. `made` gets the protocol."""
        pause = Pause(self._loop)
        dial = self._loop.create_task(self._dial(factory, connect_s, made, pause))
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)
        try:
            await pause
        except asyncio.CancelledError:
            dial.cancel()
            raise

    async def _dial(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        connect_s: float,
        made: list[asyncio.BaseProtocol],
        pause: Pause,
    ) -> None:
        origin, failure = self.origin, ForwardError("this pool was closed")
        try:
            over_tls = origin.context is not None
            async with asyncio.timeout(connect_s):
                _, protocol = await self._loop.create_connection(
                    factory,
                    origin.host,
                    origin.port,
                    ssl=origin.context,
                    server_hostname=(origin.name or origin.host) if over_tls else None,
                    ssl_handshake_timeout=max(connect_s, 0.001) if over_tls else None,
                    ssl_shutdown_timeout=FAREWELL_S if over_tls else None,
                )
            made.append(protocol)
        except TimeoutError:
            failure = TimedOut(Phase.CONNECT, connect_s)
        except OSError as error:
            failure = no_connection(error, origin.address)
        except asyncio.CancelledError:
            failure = Refused("this pool was closed meanwhile")
            raise
        finally:
            pause.wake(None if made else failure)

    def _close_idle(self) -> None:
        before_s = self._loop.time() - self._keepalive_s + 0.002
        while self._idle and self._idle[0].since_s <= before_s:
            self._idle.popleft().close()
        if self._idle:
            self._sweep.set(self._idle[0].since_s + self._keepalive_s - self._loop.time())


class _Dialled(ClientConnection):
    """A connection that its stock knows as long as it is open."""

    def __init__(self, known: "set[ClientConnection | _Foreign]") -> None:
        super().__init__()
        self._among = known

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        super().connection_made(transport)
        self._among.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._among.discard(self)
        super().connection_lost(exc)


class _Foreign(asyncio.Protocol):
    """A connection with somebody else's protocol on it, known to its stock."""

    def __init__(self, inner: asyncio.Protocol, known: "set[ClientConnection | _Foreign]") -> None:
        self.transport: asyncio.Transport | None = None
        self._among = known
        self.data_received = inner.data_received  # type: ignore[method-assign]
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]
        self._inner = inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.transport = cast(asyncio.Transport, transport)
        self._among.add(self)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._among.discard(self)
        self._inner.connection_lost(exc)
