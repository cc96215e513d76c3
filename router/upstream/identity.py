"""This router's side of mutual TLS with gateways: what it shows, and whom it takes for a cluster.

Input: credentials, which change under way; the certificates of connections. Output: TLS contexts
for `http`, and reasons in words why a connection may not be used.
"""

import ssl
from collections.abc import Mapping
from typing import Any

from federation.contract.errors import FederationError, Unavailable
from federation.contract.spiffe import PeerId, PeerRole
from federation.runtime.clock import Clock
from federation.trust.credentials import Credentials
from federation.trust.peers import Peer, check_peer, peer_from_ssl

_REMEMBERED = 4096  # certificates that were read


class Identity:
    """A router among gateways."""

    def __init__(self, credentials: Credentials, clock: Clock) -> None:
        self._credentials = credentials
        self._clock = clock
        self._peers: dict[str, Peer] = {}  # by serial number

    def __repr__(self) -> str:
        return f"Identity({self._credentials})"

    @property
    def trust_domain(self) -> str:
        """The trust domain that this router belongs to, "" before it has joined."""
        trust = self._credentials.trust
        return trust.trust_domain if trust else ""

    def name_of(self, cluster: str) -> str:
        """Return the name that a cluster's certificate must carry."""
        return PeerId(self.trust_domain, PeerRole.CLUSTER, cluster).dns_name

    def context(self) -> ssl.SSLContext:
        """Return the context to dial with now; raises Invalid or Unavailable if there is none."""
        leaf, _ = self._credentials.require()
        if leaf.facts.not_after <= self._clock.utc():
            raise Unavailable(
                f"this router's certificate expired at {leaf.facts.not_after:%F %T} UTC",
                hint="It renews itself as soon as it reaches the control plane.",
                reason="certificate-expired",
            )
        return self._credentials.client_context()

    def problem(self, certificate: Mapping[str, Any]) -> str:
        """Return why no request may be sent to the bearer of a certificate, "" if one may."""
        try:
            _, trust = self._credentials.require()
            now = self._clock.utc()
            check_peer(self._peer(certificate), PeerRole.CLUSTER, trust=trust, now=now)
        except FederationError as error:
            return error.message.rstrip(".")
        return ""

    def revoked(self, certificate: Mapping[str, Any]) -> str:
        """Return why what runs on a connection must end too, "" if it may go on.

        Expiry is none: what was begun before it may finish.
        """
        try:
            _, trust = self._credentials.require()
            peer = self._peer(certificate)
        except FederationError as error:
            return error.message
        refused = trust.refuses(peer.id.uri, peer.generation)
        return f"the certificate of {peer.id} is revoked" if refused else ""

    def _peer(self, certificate: Mapping[str, Any]) -> Peer:
        """Read a certificate once, not with every request; raises Unauthenticated."""
        serial = str(certificate.get("serialNumber"))
        if serial not in self._peers:
            if len(self._peers) >= _REMEMBERED:
                self._peers.clear()
            self._peers[serial] = peer_from_ssl(certificate)
        return self._peers[serial]
