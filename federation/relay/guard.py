"""Who may speak on connections that are already there.

Input: each request and the certificate that its connection was made with; changes of our
certificate and of whom we trust. Output: a request goes on or is refused; connections of revoked
peers are aborted at once. TLS looks at certificates in the handshake only. It does not matter who
dialled: on a reversed connection the peer is the TLS server, and is checked alike.
"""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from federation.contract.errors import FederationError, Unauthenticated
from federation.contract.spiffe import PeerRole
from federation.contract.trust import Trust
from federation.relay.errors import NothingDone
from federation.relay.http1.messages import Request, StreamResponse
from federation.relay.transport import Inbound
from federation.runtime.clock import Clock
from federation.trust.credentials import Credentials
from federation.trust.peers import Peer, check_peer, peer_from_ssl
from federation.trust.renewal import BACKDATED

_LAST_SHARE = 0.1  # of a certificate's life: time for the peer to come with the next one
# The peer is one of ours and will be back with another certificate: it may try elsewhere now.
_PASSING = frozenset({"certificate-expired", "certificate-revoked"})


@dataclass(slots=True, eq=False)
class _Connection:
    transport: asyncio.Transport
    peer: Peer
    near_end: datetime  # from here on the peer is asked to come back with a newer certificate
    context: object  # the TLS context of its handshake
    vetted: tuple[Trust | None, PeerRole | None] = (None, None)
    running: int = 0
    expiry: asyncio.TimerHandle | None = None


class PeerGuard:
    """Checks every request of a server's connections; only peers of one role may speak.

    Request targets that begin with a key of `paths` are for peers of the role there, and for no
    others. A connection is known from its first request until it is lost.
    """

    def __init__(
        self,
        credentials: Credentials,
        role: PeerRole,
        clock: Clock,
        *,
        paths: Mapping[str, PeerRole] = MappingProxyType({}),
    ) -> None:
        self.refused = 0
        self.aborted = 0
        self._credentials = credentials
        self._role = role
        self._paths = dict(paths)
        self._clock = clock
        self._connections: dict[Inbound, _Connection] = {}
        credentials.on_change.append(self._abort_revoked)

    def __repr__(self) -> str:
        peers = sorted({one.peer.id.name for one in self._connections.values()})
        return f"PeerGuard({self._role.value}: {', '.join(peers) or 'nobody'})"

    def peer(self, request: Request) -> Peer:
        """Return who sent a request; raises Unauthenticated if the connection cannot tell."""
        return self._connection(request.connection).peer

    def admit(self, request: Request) -> None:
        """Let a request go on, or raise as `admit_on` does."""
        self.admit_on(request.connection, request.raw_path)

    def admit_on(self, connection: Inbound, target: str) -> None:
        """Let a request that came on a connection go on, or raise; `target` is its path.

        Raises NothingDone if the peer's certificate has expired or is revoked, Unauthenticated or
        PermissionDenied if it is none of a peer that may speak here.
        """
        try:
            known = self._connection(connection)
            _, trust = self._credentials.require()
            now = self._clock.utc()
            role = self._role_for(target)
            vetted, vetted_role = known.vetted
            stale = vetted is not trust or now >= known.peer.not_after
            if stale or vetted_role is not role:
                check_peer(known.peer, role, trust=trust, now=now)
                known.vetted = trust, role  # until the next trust only time can change that
        except FederationError as error:
            self.refused += 1
            if error.reason in _PASSING:
                raise NothingDone(error, refused=error.reason) from None
            raise

    def serving(self, request: Request) -> AbstractContextManager[None]:
        """Count a request that was admitted: its connection is not idle while this lasts."""
        return self.serving_on(request.connection)

    @contextmanager
    def serving_on(self, connection: Inbound) -> Iterator[None]:
        """Count a request that was admitted on a connection, as `serving` does."""
        known = self._connection(connection)
        known.running += 1
        try:
            yield
        finally:
            known.running -= 1

    def is_last(self, connection: Inbound) -> bool:
        """Return whether the answer should ask the peer for another connection: because ours or
        its certificate is about to end, or ours or our trust is newer than the connection."""
        try:
            known = self._connection(connection)
        except Unauthenticated:
            return True
        old = not self._credentials.is_current(known.context)
        return old or self._clock.utc() >= known.near_end

    def end_old(self, request: Request, response: StreamResponse) -> None:
        """Tell the peer that a connection has to be replaced, while there is time for it."""
        if self.is_last(request.connection):
            response.force_close()

    def _role_for(self, target: str) -> PeerRole:
        """Return who may ask for a target as it was sent; that it is a path is checked later."""
        found = (role for begin, role in self._paths.items() if target.startswith(begin))
        return next(found, self._role)

    # ------------------------------------------------------------ connections

    def _connection(self, inbound: Inbound) -> _Connection:
        found = self._connections.get(inbound)
        if found is None:
            found = self._connections[inbound] = self._met(inbound.transport)
            inbound.on_lost.append(lambda: self._forget(inbound))
        return found

    def _met(self, transport: asyncio.Transport) -> _Connection:
        """Return what is known of a connection at its first request."""
        if transport.is_closing():
            raise Unauthenticated("this connection is gone.")
        certificate = transport.get_extra_info("peercert")
        peer = peer_from_ssl(certificate)
        begin = datetime.fromtimestamp(
            ssl.cert_time_to_seconds(certificate["notBefore"]), tz=peer.not_after.tzinfo
        )
        life = peer.not_after - begin - BACKDATED
        tls = transport.get_extra_info("ssl_object")
        connection = _Connection(
            transport=transport,
            peer=peer,
            near_end=peer.not_after - life * _LAST_SHARE,
            context=getattr(tls, "context", None),
        )
        connection.expiry = self._when_expired(connection)
        return connection

    def _forget(self, inbound: Inbound) -> None:
        connection = self._connections.pop(inbound)
        if connection.expiry:
            connection.expiry.cancel()

    def _when_expired(self, connection: _Connection) -> asyncio.TimerHandle:
        left_s = (connection.peer.not_after - self._clock.utc()).total_seconds()

        def close_if_idle() -> None:
            if not connection.running:  # else its next request is refused
                connection.transport.close()

        return asyncio.get_running_loop().call_later(max(0.0, left_s), close_if_idle)

    def _abort_revoked(self) -> None:
        trust = self._credentials.trust
        if trust is None:
            return
        for connection in list(self._connections.values()):
            if trust.refuses(connection.peer.id.uri, connection.peer.generation):
                self.aborted += 1
                connection.transport.abort()
