"""Who is calling, and which Host names are ours.

Input: the Authorization header of a call, or the certificate that its connection was made with; the
State that says what is valid now. Output: a Caller with its grants, or Unauthenticated. A revoked
key or certificate is refused from the next call on.
"""

import ipaddress
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from federation.api.errors import Handler
from federation.contract.access import Grant, Role
from federation.contract.errors import PermissionDenied, Unauthenticated
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Trust
from federation.identity.tokens import Token, TokenKind, digest, matches, parse
from federation.policy.access.records import KeyKind
from federation.policy.access.roles import Caller
from federation.policy.membership.records import Membership, RouterRecord
from federation.policy.records import ClusterRecord
from federation.policy.state import State
from federation.runtime.clock import Clock
from federation.trust.peers import Peer, check_peer, peer_from_ssl

_SEND = "Send `Authorization: Bearer <token>`; people do so after `fed login`."
_WHERE = "Get a new one from whoever runs the control plane, then `fed login`."
_ADMIN_GRANTS = (Grant(role=Role.ADMIN),)


class People(Protocol):
    """Knows the callers of an identity provider, by their JSON web tokens."""

    async def caller(self, text: str) -> Caller:
        """Return who a token says; raises Unauthenticated or Unavailable."""
        ...


def bearer(header: str | None) -> str:
    """Return the text behind `Bearer` in an Authorization header; raises Unauthenticated."""
    scheme, _, text = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Unauthenticated("this call needs a bearer token.", hint=_SEND)
    return text.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the gate compares with: all of it as it is at the moment of the call."""

    state: Callable[[], State]
    trust: Callable[[], Trust | None]
    admin: Token
    clock: Clock
    people: People | None = None


class Gate:
    """Tells callers from strangers. What a caller may do is not asked here, but in `policy`."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def __repr__(self) -> str:
        return f"Gate({'with' if self._known.people else 'without'} an identity provider)"

    async def admit(self, request: web.Request) -> Caller:
        """Return the caller of a request; raises Unauthenticated, or Unavailable while an
        identity provider's keys cannot be had."""
        header = request.headers.get("Authorization")
        certificate = request.transport and request.transport.get_extra_info("peercert")
        if header is None and certificate:
            return self._peer(peer_from_ssl(certificate))
        text = bearer(header)
        if self._known.people and not text.startswith("fed_"):
            return await self._known.people.caller(text)
        return self._bearer(parse(text))

    def _bearer(self, token: Token) -> Caller:
        match token.kind:
            case TokenKind.ADMIN:
                if matches(token.sha256, self._known.admin.sha256):
                    return Caller(name=f"admin/{token.id}", grants=_ADMIN_GRANTS)
            case TokenKind.USER:
                return self._user(token)
            case TokenKind.INFERENCE:
                raise Unauthenticated(
                    "this is a key for inference.", hint="Send it to a router, not to this API."
                )
            case TokenKind.JOIN | TokenKind.ROUTER_JOIN:
                raise Unauthenticated(
                    "this is a join token.", hint="An agent or router joins with it, once."
                )
        raise Unauthenticated("the token is unknown, or a newer one replaced it.", hint=_WHERE)

    def _user(self, token: Token) -> Caller:
        state = self._known.state()
        record = state.keys.get(token.id)
        kept = record.digest if record and record.kind is KeyKind.USER else ""
        # The digest is made for unknown keys as well: the time of an answer tells nobody's name.
        if not matches(digest(state.pepper, token.text), kept) or record is None:
            raise Unauthenticated("the key is unknown, replaced or revoked.", hint=_WHERE)
        if record.expires_at is not None and record.expires_at <= self._known.clock.utc():
            raise Unauthenticated(
                f"the key {token.id!r} expired at {record.expires_at:%F %T} UTC.",
                hint=_WHERE,
                reason="key-expired",
            )
        return Caller(name=f"user/{token.id}", grants=record.grants)

    def _peer(self, peer: Peer) -> Caller:
        trust = self._known.trust()
        if trust is None:
            raise Unauthenticated("this control plane does not know yet whom it trusts.")
        check_peer(peer, peer.id.role, trust=trust, now=self._known.clock.utc())
        name = f"{peer.id.role.value}/{peer.id.name}"
        membership = _membership(self._known.state(), peer.id)
        if not membership.valid or membership.generation != peer.generation:
            raise Unauthenticated(
                f"{name} is no member of this federation, or joined anew since.",
                hint="An operator can let it join again.",
                reason="no-member",
            )
        return Caller(name=name, peer=peer.id)


def _membership(state: State, peer: PeerId) -> Membership:
    record: ClusterRecord | RouterRecord | None = None
    if peer.role is PeerRole.CLUSTER:
        record = state.clusters.get(peer.name)
    elif peer.role is PeerRole.ROUTER:
        record = state.registered_routers.get(peer.name)
    return record.membership if record else Membership()


def only_known_hosts(names: Collection[str]) -> Middleware:
    """Return a middleware that refuses Host names which are neither addresses, localhost nor ours.

    A web page that rebinds its own name to this address would send that name (DNS rebinding).
    """

    @web.middleware
    async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = _without_port(request.host)
        if host != "localhost" and host not in names and not _is_address(host):
            raise PermissionDenied(
                f"this server does not go by the name {host!r}.",
                hint="The operator adds names with --allowed-hosts.",
                reason="unknown-host",
            )
        return await handler(request)

    return check_host


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
