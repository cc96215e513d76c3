"""Where one protocol ends and the next begins: connections made for anybody, and handed over.

Two small interfaces between the HTTP/1.1 data path and the HTTP/2 switch (`relay/h2`):

- Upstream side: a Dialler makes connections to one peer, whatever lies beneath (TCP, mutual TLS,
  or a connection that a cluster behind NAT lent). The protocol on it is the caller's.
- Server side: a client that speaks HTTP/2 from its first byte on is handed over, with its open
  connection, to what a Takeover makes. Its bytes, its end and its backpressure are passed on.

Input and output: the types below; nothing here does I/O.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, runtime_checkable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113, section 3.4
H2 = "h2"  # its name in ALPN

ProtocolFactory = Callable[[], asyncio.Protocol]


@runtime_checkable
class Dialler(Protocol):
    """Makes connections to one peer: `Upstreams.dialler(cluster, url)` and `Forwarder.dialler(url)`
    return one."""

    async def connect(
        self, protocol_factory: ProtocolFactory, *, connect_s: float
    ) -> asyncio.Transport:
        """Return the transport of a connection that may be used, with the caller's protocol on it.

        `connection_made` was called, and `connection_lost` will be. The peer's certificate was
        checked (chain, name, expiry, revocation); a connection that is revoked later is aborted.
        A caller that keeps a connection for longer asks `usable` before each request on it.

        Raises ConnectFailed or TimedOut(Phase.CONNECT) (`relay.forward`): nothing was sent.
        """
        ...

    def usable(self, transport: asyncio.Transport) -> bool:
        """Return whether a new request may still go out on a connection made here: it is open, its
        certificate is still good, and ours is the one that it was made with. A connection that is
        not usable any more should finish what runs and close."""
        ...


class Inbound(Protocol):
    """A client's connection that is handed over; `relay.http1.server.ServerConnection` is one.

    It is also what `PeerGuard` and `Connections` know the connection by: it can be given to
    `PeerGuard.admit_on(connection, target)` before each request, and stays the transport's protocol
    until the end. `on_lost` are called then."""

    transport: asyncio.Transport
    on_lost: list[Callable[[], None]]

    @property
    def remote(self) -> str:
        """The client's address, "" where there is none."""
        ...


class Switched(Protocol):
    """What takes a connection over: an asyncio.Protocol that also knows how to end in peace."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is handed over; called once, before anything else."""
        ...

    def data_received(self, data: bytes) -> None:
        """Bytes came; the first ones begin with PREFACE (or with the part that has come)."""
        ...

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        ...

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        ...

    def resume_writing(self) -> None:
        """It reads again."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        ...

    def drain(self) -> None:
        """The server stops: take no new requests (GOAWAY), end what runs, then close. What is not
        done in the server's grace is aborted."""
        ...


Takeover = Callable[[Inbound], Switched]
"""Makes what speaks HTTP/2 on a client's connection. Given to the server's application as
`Application.on_h2`; where it is None, HTTP/2 is refused."""
