"""Connections that clusters behind NAT made to this router, ready to carry requests.

Input: TLS connections that agents dial (see `federation.relay.reversal`); whose they are, their
certificates say. Output: per cluster a stock that requests take connections from as if it had
dialled them (who gets which one: `lending`).

An idle connection on which anything but silence comes is closed. One whose certificate expired gets
no further request; one whose certificate was revoked is broken at once, whatever runs on it.
"""

import asyncio
import errno
import logging
import socket
from dataclasses import dataclass
from typing import Any

from federation.contract.errors import Conflict, FederationError, Invalid, Unavailable
from federation.contract.spiffe import PeerRole
from federation.relay.failures import Vet
from federation.relay.http1.client import ClientConnection, Exchange
from federation.relay.pool import vetted
from federation.relay.reversal import ALPN, GOODBYE, WAITING_HEADER, agreed, keep_open
from federation.relay.transport import ProtocolFactory
from federation.runtime.clock import Clock
from federation.trust.credentials import Credentials
from federation.trust.peers import Peer, check_peer, peer_from_ssl
from router.upstream.lending import Counts, Lender, Owner, ReversedConnection

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseLimits:
    """How many connections are kept. An agent holds up to 256 open: twice that lets one in whose
    former connections were cut off without a word. `handshake_s` bounds TLS, `farewell_s` closing.
    """

    per_cluster: int = 512
    total: int = 16_384
    handshake_s: float = 5.0
    farewell_s: float = 2.0


class ReversePool(Owner):
    """All reversed connections of a router. `refused` counts those that were not taken in."""

    def __init__(
        self, credentials: Credentials, *, clock: Clock, limits: ReverseLimits | None = None
    ) -> None:
        self.refused = 0
        self._credentials = credentials
        self._clock = clock
        self._limits = limits or ReverseLimits()
        self._lenders: dict[str, Lender] = {}
        self._open: dict[ReversedConnection, asyncio.TimerHandle] = {}
        self._roots: frozenset[str] = frozenset()
        self._server: asyncio.Server | None = None
        self._emptied = asyncio.Event()

    def __repr__(self) -> str:
        held = ", ".join(f"{n}: {c.idle} idle, {c.lent} lent" for n, c in self.counts().items())
        return f"ReversePool({'open' if self._server else 'closed'}; {held})"

    def counts(self) -> dict[str, Counts]:
        """Return what there is of each cluster that ever had a connection or a request."""
        return {name: lender.counts() for name, lender in sorted(self._lenders.items())}

    async def listen(self, address: str | socket.socket) -> tuple[str, int]:
        """Take in connections at `HOST:PORT` (port 0: any), or on a bound socket; return where.

        Raises Conflict if the port is taken, Invalid or Unavailable if the address is no good.
        """
        where: dict[str, Any] = {"sock": address}
        if isinstance(address, str):
            where = dict(zip(("host", "port"), _split(address), strict=True))
        _, trust = self._credentials.require()
        self._roots = frozenset(trust.roots)
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: ReversedConnection(self),
                **where,
                ssl=self._credentials.server_context(alpn=ALPN),
                ssl_handshake_timeout=self._limits.handshake_s,
                ssl_shutdown_timeout=self._limits.farewell_s,
                backlog=1024,
            )
        except OSError as error:
            raise _cannot_listen(address, error) from None
        self._credentials.on_change.append(self._recheck)
        bound: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return bound

    def stock_for(self, cluster: str) -> "ReversedStock":
        """Return a stock of this cluster's connections (for a Forwarder).

        Several may be made for one cluster: they share its connections. Closing one breaks only
        what it lent. Its requests raise Refused when no connection came in time.
        """
        return ReversedStock(self.lender(cluster))

    def lender(self, cluster: str) -> Lender:
        """Return the connections of a cluster; there may be none yet."""
        if cluster not in self._lenders:
            self._lenders[cluster] = Lender(cluster, self._usable)
        return self._lenders[cluster]

    def drop(self, cluster: str) -> None:
        """Close what is idle of a cluster that left; what is lent closes after its request."""
        if lender := self._lenders.get(cluster):
            for connection in list(lender.open):
                self._end(connection)

    async def close(self) -> None:
        """Stop listening and close all connections, also those that are lent."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        self._credentials.on_change.remove(self._recheck)
        for connection in list(self._open):
            connection.close()
        try:
            async with asyncio.timeout(self._limits.farewell_s):
                while self._open:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            for connection in list(self._open):
                connection.abort()

    # ------------------------------------------------------------ coming and going

    def arrived(self, connection: ReversedConnection, transport: asyncio.Transport) -> None:
        """Take a connection in after its handshake, or break it at once."""
        try:
            peer = self._admit(transport)
        except FederationError as error:
            self.refused += 1
            log.warning("a reversed connection is refused: %s", error.message)
            transport.abort()
            return
        keep_open(transport)
        connection.peer = peer
        left_s = (peer.not_after - self._clock.utc()).total_seconds()
        loop = asyncio.get_running_loop()
        self._open[connection] = loop.call_later(max(left_s, 0), self._end, connection)
        lender = self.lender(peer.id.name)
        lender.open.add(connection)
        lender.give_back(connection)

    def _admit(self, transport: asyncio.Transport) -> Peer:
        if self._server is None:
            raise Unavailable("this router stops.")
        if not agreed(transport):
            raise Invalid(f"the far end does not speak {ALPN!r}.")
        peer = peer_from_ssl(transport.get_extra_info("peercert"))
        _, trust = self._credentials.require()
        check_peer(peer, PeerRole.CLUSTER, trust=trust, now=self._clock.utc())
        if len(self.lender(peer.id.name).open) >= self._limits.per_cluster:
            raise Unavailable(
                f"cluster {peer.id.name} has {self._limits.per_cluster} connections already."
            )
        if len(self._open) >= self._limits.total:
            raise Unavailable(f"there are {self._limits.total} reversed connections already.")
        return peer

    def gone(self, connection: ReversedConnection) -> None:
        """Forget a connection that is closed."""
        if timer := self._open.pop(connection, None):
            timer.cancel()
            self.lender(connection.cluster).forget(connection)
            if not self._open:
                self._emptied.set()

    def spoke(self, connection: ReversedConnection, data: bytes) -> None:
        """End an idle connection: the agent said goodbye, or what it should not."""
        self.lender(connection.cluster).withdraw(connection)
        if data == GOODBYE:
            connection.close()
        else:
            log.warning("cluster %s spoke unasked; its connection is broken", connection.cluster)
            connection.abort()

    def _end(self, connection: ReversedConnection) -> None:
        """Give no further request to a connection: close it now or after its request."""
        connection.force_close()
        if self.lender(connection.cluster).withdraw(connection):
            connection.close()

    def _recheck(self) -> None:
        """Credentials changed: break what is revoked, end what was made under a root now gone."""
        trust = self._credentials.trust
        roots = frozenset(trust.roots if trust else ())
        a_root_left, self._roots = not self._roots <= roots, roots
        for connection in list(self._open):
            if not self._allowed(connection):
                connection.abort()
            elif a_root_left:
                self._end(connection)

    def _usable(self, connection: ReversedConnection) -> bool:
        # The timer at expiry follows the monotonic clock; the wall clock may have been set.
        return connection.is_connected() and self._allowed(connection)

    def _allowed(self, connection: ReversedConnection) -> bool:
        _, trust = self._credentials.require()
        if connection.peer is None:
            return False
        try:
            check_peer(connection.peer, PeerRole.CLUSTER, trust=trust, now=self._clock.utc())
        except FederationError:
            return False
        return True


class ReversedStock:
    """Takes connections of one cluster from its lender, and gives them back there."""

    def __init__(self, lender: Lender) -> None:
        self._lender = lender
        self._lent: set[ReversedConnection] = set()
        self._switched: dict[asyncio.Transport, ReversedConnection] = {}
        self._open = True

    def __repr__(self) -> str:
        return f"ReversedStock({self._lender}, lent={len(self._lent)})"

    def take_now(self, *, probe: bool) -> ClientConnection | None:
        """Return an idle connection, None if there is none to spare."""
        if (found := self._lender.take_now(probe=probe)) is not None:
            self._lent.add(found)
        return found

    async def take(self, connect_s: float, *, probe: bool) -> ClientConnection:
        """Return a connection as soon as there is one; raises Refused."""
        found = await self._lender.take(patience_s=connect_s, probe=probe)
        self._lent.add(found)
        return found

    def give_back(self, connection: ClientConnection) -> None:
        """Give a connection back to its lender."""
        if isinstance(connection, ReversedConnection):
            self._lent.discard(connection)
            self._lender.give_back(connection)

    def header(self) -> tuple[str, str] | None:
        """Tell the agent how many requests wait for a connection."""
        waiting = self._lender.waiting
        return (WAITING_HEADER, str(waiting)) if waiting else None

    def sever(self, why: Vet) -> int:
        """Break what was lent about which `why` has something to say."""
        broken = [one for one in self._lent if one.is_connected() and vetted(one, why)]
        for one in broken:
            one.abort()
        return len(broken)

    def exchanges(self) -> list[Exchange]:
        """Return what is under way on what was lent."""
        return [one.exchange for one in self._lent if one.exchange is not None]

    @property
    def carries(self) -> bool:
        """Whether another protocol is at work on a connection."""
        return any(one.is_connected() for one in self._switched.values())

    def close(self) -> None:
        """Break what is lent."""
        self._open = False
        for one in list(self._lent):
            one.abort()

    async def closed(self) -> None:
        """The pool of all reversed connections waits for them."""

    # ------------------------------------------------------------ for other protocols

    async def connect(
        self, protocol_factory: ProtocolFactory, *, connect_s: float
    ) -> asyncio.Transport:
        """Return a connection with another protocol on it until its end (`transport.Dialler`)."""
        connection = self._lender.take_now(probe=False)
        if connection is None:
            connection = await self._lender.take(patience_s=connect_s, probe=False)
        self._lent = {one for one in self._lent if one.is_connected()}
        self._lent.add(connection)
        try:
            transport = connection.hand_over(protocol_factory())
        except BaseException:
            self.give_back(connection)
            raise
        self._switched = {t: c for t, c in self._switched.items() if c.is_connected()}
        self._switched[transport] = connection
        return transport

    def usable(self, transport: asyncio.Transport) -> bool:
        """Return whether a connection made by `connect` may carry another request."""
        connection = self._switched.get(transport)
        return self._open and connection is not None and self._lender.usable(connection)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit() and int(port) < 65536):
        raise Invalid(f"{address!r} is not an address.", hint="Use HOST:PORT.")
    return host.strip("[]"), int(port)


def _cannot_listen(address: str | socket.socket, error: OSError) -> FederationError:
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"{address} is in use by another process.",
            hint="Stop it or choose another port.",
            reason="address-in-use",
        )
    return Unavailable(f"Cannot listen on {address}: {error.strerror}.")
