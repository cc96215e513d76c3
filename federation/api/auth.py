"""Who is calling: bearer tokens of operators, routers and agents; and which Host names are ours.

Input: the Authorization header or metadata entry of a call. Output: a Token whose hash was compared
with what the control plane keeps, or Unauthenticated or PermissionDenied.
"""

import ipaddress
from collections.abc import Callable, Collection

from aiohttp import web
from aiohttp.typedefs import Middleware

from federation.api.errors import Handler
from federation.contract.errors import PermissionDenied, Unauthenticated
from federation.identity.tokens import Token, TokenKind, matches, parse

_SEND = "Send `Authorization: Bearer <token>`."
_WHERE = "Those of operators and routers lie in the control plane's state directory."


def bearer(header: str | None) -> Token:
    """Return the token of an Authorization header; raises Unauthenticated."""
    scheme, _, text = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Unauthenticated("this call needs a bearer token.", hint=_SEND)
    return parse(text.strip())


class Gate:
    """Knows the kept hashes. `credential_of` returns a cluster's, empty if it has not joined."""

    def __init__(
        self, *, admin_sha256: str, router_sha256: str, credential_of: Callable[[str], str]
    ) -> None:
        self._kept = {TokenKind.ADMIN: admin_sha256, TokenKind.ROUTER: router_sha256}
        self._credential_of = credential_of

    def __repr__(self) -> str:
        return f"Gate({', '.join(kind.value for kind in self._kept)}, agent)"

    def admit(self, header: str | None, allowed: Collection[TokenKind]) -> Token:
        """Return the caller if its token is known and of an allowed kind."""
        token = bearer(header)
        if token.kind is TokenKind.AGENT:
            kept = self._credential_of(token.id)
        else:
            kept = self._kept.get(token.kind, "")
        if not matches(token.sha256, kept):
            raise Unauthenticated("the token is unknown, or a newer one replaced it.", hint=_WHERE)
        if token.kind not in allowed:
            names = " or ".join(sorted(kind.value for kind in allowed))
            raise PermissionDenied(
                f"a token of kind {token.kind.value!r} may not do this.",
                hint=f"It needs one of kind {names}.",
            )
        return token


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
