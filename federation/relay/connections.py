"""How many connections a server holds, and for how long a closed one may linger.

Input: every connection that a server accepts and loses, ours or aiohttp's. Output: those over a
ceiling are answered 503 and closed before a byte of theirs is read; those that we closed and
whose client does not take the rest are cut. One count per client network: an IPv4 address, or the
/64 that an IPv6 client owns whole.
"""

import asyncio
import contextlib
import ipaddress
import logging
import resource
import socket
import struct
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from aiohttp import web

from federation.contract.errors import Invalid

log = logging.getLogger(__name__)

_SORRY = b'{"error": "Too many connections. Close some, or try again in a few seconds."}'
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_SORRY), _SORRY)
)
_SPARE_FILES = 256  # databases, logs, listeners, the connection to the control plane
_QUIET_S = 10.0  # between two warnings
_SWEEP_S = 1.0
_UNSENT_BYTES = 128 * 1024
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Ceilings for open connections; 0 = none.

    `exempt` are networks (CIDR) of proxies that speak for many clients: only `total` counts them.
    `closing_s` bounds how long a connection that we closed may keep what it was sent unread.
    """

    total: int = 0
    per_address: int = 0
    exempt: tuple[str, ...] = ()
    closing_s: float = 30.0


class Connections:
    """The open connections of one server, by client network."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self.refused = 0  # since the start
        self.cut = 0  # closed by us, kept open by the client, then aborted
        self._exempt = _networks(self.limits.exempt)
        self._open: dict[Hashable, _Open] = {}
        self._counts: Counter[str] = Counter()
        self._warned_s = -_QUIET_S
        self._sweeping: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        ceiling = self.limits.total or "no ceiling"
        return f"Connections({len(self._open)} of {ceiling}, {self.refused} refused)"

    def __len__(self) -> int:
        return len(self._open)

    def attach(self, server: web.Server) -> None:
        """Be told of all connections of one of aiohttp's servers."""
        made, lost = server.connection_made, server.connection_lost

        def on_made(handler: web.RequestHandler, transport: asyncio.Transport) -> None:
            made(handler, transport)
            if not self.made(handler, transport):
                transport.pause_reading()
                # Not at once: aiohttp's task must have begun when it learns that it is lost.
                asyncio.get_running_loop().call_soon(transport.close)

        def on_lost(handler: web.RequestHandler, exc: BaseException | None = None) -> None:
            lost(handler, exc)
            self.lost(handler)

        server.connection_made = on_made  # type: ignore[method-assign]
        server.connection_lost = on_lost  # type: ignore[method-assign]

    def detach(self) -> None:
        """Stop looking after connections; those that are open stay so."""
        if self._sweeping:
            self._sweeping.cancel()
            self._sweeping = None

    def made(self, connection: Hashable, transport: asyncio.Transport) -> bool:
        """Count a new connection; False if it is one too many: it was told so, and is to be
        closed."""
        network = _network_of(transport.get_extra_info("peername"), self._exempt)
        if why := self._why_not(network):
            self.refused += 1
            self._warn(why)
            transport.write(_BUSY)
            network = ""
        else:
            _bound_unsent(transport)
        self._open[connection] = _Open(transport, network)
        if network:
            self._counts[network] += 1
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        return not why

    def lost(self, connection: Hashable) -> None:
        """Forget a connection that is over."""
        gone = self._open.pop(connection, None)
        if gone is None or not gone.network:
            return
        self._counts[gone.network] -= 1
        if not self._counts[gone.network]:
            del self._counts[gone.network]

    def _why_not(self, network: str) -> str:
        limits = self.limits
        if limits.total and len(self._open) >= limits.total:
            return f"{limits.total} connections are open, which is the ceiling"
        if limits.per_address and network and self._counts[network] >= limits.per_address:
            return f"{network} has {limits.per_address} connections, which is the ceiling for one"
        return ""

    def _warn(self, why: str) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._warned_s >= _QUIET_S:
            self._warned_s = now_s
            log.warning("a connection was refused: %s (%d refused so far)", why, self.refused)

    def _sweep(self) -> None:
        """Abort what we closed and the client keeps open by not reading the rest."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        for one in list(self._open.values()):
            if not one.transport.is_closing():
                continue
            one.closing_since_s = min(one.closing_since_s, now_s)
            if now_s - one.closing_since_s >= self.limits.closing_s:
                self.cut += 1
                cut_off(one.transport)
        self._sweeping = loop.call_later(_SWEEP_S, self._sweep) if self._open else None


@dataclass(slots=True)
class _Open:
    transport: asyncio.Transport
    network: str  # "" = counted under no address
    closing_since_s: float = float("inf")


class GuardedRunner(web.AppRunner):
    """A runner whose server's connections are counted and looked after."""

    def __init__(
        self, app: web.Application, *, connections: Connections, **settings: object
    ) -> None:
        super().__init__(app, **settings)  # type: ignore[arg-type]
        self.open = connections

    async def setup(self) -> None:
        """Make the server, and look after its connections."""
        await super().setup()
        if self.server is not None:
            self.open.attach(self.server)

    async def cleanup(self) -> None:
        """Stop serving."""
        await super().cleanup()
        self.open.detach()


def cut_off(transport: asyncio.Transport) -> None:
    """Reset a connection: what the client has not taken is thrown away at once.

    A mere close would leave up to megabytes of it in the kernel for minutes.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _bound_unsent(transport: asyncio.Transport) -> None:
    """Bound what the kernel holds for a client that takes little; what is in flight comes on top.

    Without it, that is up to tcp_wmem's maximum (4 MB) for each client that does not read.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and _NOTSENT_LOWAT is not None:
        with contextlib.suppress(OSError):  # no TCP
            sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _UNSENT_BYTES)


def raise_file_limit(wanted: int) -> int:
    """Let this process hold `wanted` connections, if it may; return how many it can hold."""
    needed = wanted + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < needed:
        soft = needed if hard == unlimited else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == unlimited else min(wanted, max(soft - _SPARE_FILES, 1))


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(texts: Sequence[str]) -> tuple[_Network, ...]:
    try:
        return tuple(ipaddress.ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise Invalid(f"A network is not understood: {error}.", hint="Use CIDR.") from None


def _network_of(peername: object, exempt: tuple[_Network, ...]) -> str:
    """Return under which name a peer is counted; "" = under none."""
    if not (isinstance(peername, tuple) and peername):
        return ""  # a Unix socket
    try:
        address = ipaddress.ip_address(str(peername[0]).partition("%")[0])
    except ValueError:
        return ""
    address = getattr(address, "ipv4_mapped", None) or address
    if any(address in network for network in exempt):
        return ""
    if address.version == 6:
        return str(ipaddress.IPv6Network((int(address), 64), strict=False))
    return str(address)
