"""Who is at the other end of a TLS connection, and whether it may still be there.

Input: the certificate that a connection was made with, the trust held now, the time. Output: a
Peer, or a refusal. TLS looks at a certificate only in the handshake: expiry and revocation on
connections that live on are this module's business, asked for by servers per request or stream.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from federation.contract.errors import Invalid, PermissionDenied, Unauthenticated
from federation.contract.spiffe import PeerId, PeerRole, generation_of, parse_uri
from federation.contract.trust import Trust
from federation.trust.keys import facts_of

_FORMAT = "%b %d %H:%M:%S %Y GMT"  # ssl.SSLSocket.getpeercert


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The far end of a connection, as its verified certificate names it."""

    id: PeerId
    generation: int
    not_after: datetime


def peer_from_ssl(certificate: Mapping[str, Any] | None) -> Peer:
    """Return the peer in the result of `getpeercert()`; raises Unauthenticated."""
    if not certificate:
        raise Unauthenticated("this connection shows no client certificate.")
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    if len(uris) != 1:
        raise Unauthenticated("the client certificate does not carry exactly one URI.")
    try:
        id = parse_uri(uris[0])
    except Invalid as error:
        raise Unauthenticated(error.message) from None
    return Peer(
        id=id,
        generation=generation_of(int(certificate["serialNumber"], 16)),
        not_after=datetime.strptime(certificate["notAfter"], _FORMAT).replace(tzinfo=UTC),
    )


def peer_from_grpc(auth_context: Mapping[str, Any]) -> Peer:
    """Return the peer in gRPC's `auth_context()`; raises Unauthenticated."""
    pems = auth_context.get("x509_pem_cert")
    if not pems:
        raise Unauthenticated("this connection shows no client certificate.")
    try:
        facts = facts_of(pems[0].decode())
    except (Invalid, UnicodeDecodeError):
        raise Unauthenticated("the client certificate is none of this federation.") from None
    return Peer(id=facts.id, generation=facts.generation, not_after=facts.not_after)


def check_peer(peer: Peer, role: PeerRole, *, trust: Trust, now: datetime) -> Peer:
    """Return the peer if it may speak in this role now.

    Raises Unauthenticated (expired, revoked, of another trust domain) or PermissionDenied (of
    another role).
    """
    if peer.id.trust_domain != trust.trust_domain:
        raise Unauthenticated(f"{peer.id} is of another trust domain.", reason="wrong-trust-domain")
    if peer.not_after <= now:
        raise Unauthenticated(
            f"the certificate of {peer.id} expired at {peer.not_after:%F %T} UTC.",
            hint="Connect again with a renewed one.",
            reason="certificate-expired",
        )
    if trust.refuses(peer.id.uri, peer.generation):
        raise Unauthenticated(
            f"the certificate of {peer.id} is revoked.",
            hint="An operator can let it join anew.",
            reason="certificate-revoked",
        )
    if peer.id.role is not role:
        raise PermissionDenied(
            f"{peer.id} is no {role.value}.", hint="Use the certificate of the right process."
        )
    return peer
