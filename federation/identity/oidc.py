"""People of an identity provider: their JSON web tokens, and the roles that its claims give them.

Input: settings; tokens that callers show; the provider's public keys (a JWKS at a URL or in a
file). Output: a Caller, or Unauthenticated. Only asymmetric algorithms are accepted, whatever the
token's head says; issuer, audience and expiry are demanded. Keys are fetched again when they are
old or an unknown one is named, at most once a minute: strangers cannot make us ask more often.
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt

from federation.contract.access import Grant, Role
from federation.contract.errors import Invalid, Unauthenticated, Unavailable
from federation.policy.access.keys import check_grant
from federation.policy.access.roles import Caller
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "ES256", "EdDSA")
LEEWAY = timedelta(seconds=30)  # between the provider's clock and ours
REFRESH_S = 60.0  # between two fetches at least
MAX_AGE_S = 600.0  # after which the keys are fetched again: a key that leaked is taken back so
MAX_JWKS_BYTES = 1 << 20
MAX_TOKEN_CHARS = 16_384
_TIMEOUT = aiohttp.ClientTimeout(total=5)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MAX_NAME = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Whom we believe, and what its words mean here. `roles` are grants by value of the claim."""

    issuer: str
    audience: str
    claim: str
    roles: Mapping[str, tuple[Grant, ...]]
    jwks_url: str = ""
    jwks_file: str = ""


def provider(
    *,
    issuer: str,
    audience: str,
    jwks: tuple[str, str],
    claim: str,
    roles: Sequence[str],
) -> Provider | None:
    """Return the provider that the settings name, None for none; raises Invalid.

    `jwks` is (URL, file), of which one must be given.
    """
    url, file = jwks
    if not issuer and not (audience or url or file or roles):
        return None
    if not (issuer and audience):
        raise Invalid("--oidc-issuer and --oidc-audience are needed for an identity provider.")
    if bool(url) == bool(file):
        raise Invalid("an identity provider needs either --oidc-jwks-url or --oidc-jwks-file.")
    if url:
        _check_url(url)
    if not roles:
        raise Invalid(
            "without --oidc-roles nobody of the identity provider may do anything.",
            hint="Like: --oidc-roles platform-team=admin --oidc-roles ml=model-owner:llama-*",
        )
    return Provider(
        issuer=issuer,
        audience=audience,
        claim=claim,
        roles=parse_roles(roles),
        jwks_url=url,
        jwks_file=file,
    )


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not (parts.hostname and (parts.scheme == "https" or plain)):
        raise Invalid(
            f"--oidc-jwks-url {url!r} is no https URL.",
            hint="Keys that came over an open network could be anybody's.",
        )


def parse_roles(texts: Sequence[str]) -> dict[str, tuple[Grant, ...]]:
    """Return the grants by value of the claim, of texts `value=role[:scope]`; raises Invalid.

    The scope is a pattern of models for a model-owner, a region for an operator. A value may be
    named more than once.
    """
    found: dict[str, tuple[Grant, ...]] = {}
    for text in texts:
        value, equals, rest = text.rpartition("=")
        word, _, scope = rest.partition(":")
        if not (equals and value) or word not in {role.value for role in Role}:
            raise Invalid(
                f"--oidc-roles {text!r} is not value=role[:scope].",
                hint=f"The roles are: {', '.join(Role)}.",
            )
        found[value] = (*found.get(value, ()), _grant(Role(word), scope))
    return found


def _grant(role: Role, scope: str) -> Grant:
    limits = (scope,) if scope else ()
    if role is Role.OPERATOR:
        grant = Grant(role=role, regions=limits)
    else:
        grant = Grant(role=role, models=limits)
    check_grant(grant)
    return grant


class Oidc:
    """Verifies tokens of one provider."""

    def __init__(self, provider: Provider, clock: Clock) -> None:
        self._provider = provider
        self._keys = _Keys(provider, clock)

    def __repr__(self) -> str:
        return f"Oidc({self._provider.issuer}, {self._keys})"

    async def caller(self, text: str) -> Caller:
        """Return who a token says; raises Unauthenticated, or Unavailable while the provider's
        keys cannot be had."""
        claims = await self._claims(text)
        values = _values(claims, self._provider.claim)
        grants = [grant for value in values for grant in self._provider.roles.get(value, ())]
        return Caller(name=f"oidc/{_name(claims)}", grants=tuple(dict.fromkeys(grants)))

    async def _claims(self, text: str) -> Mapping[str, Any]:
        if len(text) > MAX_TOKEN_CHARS:
            raise _refused("it is too long")
        try:
            head = jwt.get_unverified_header(text)
        except jwt.InvalidTokenError:
            raise _refused("it is no JSON web token") from None
        kid, algorithm = head.get("kid"), head.get("alg")
        if algorithm not in ALGORITHMS:
            raise _refused("its algorithm is not accepted")
        key = await self._keys.find(kid if isinstance(kid, str) else None)
        if key is None or key.algorithm_name != algorithm:
            raise _refused("it is signed with a key that its issuer does not publish")
        try:
            claims: Mapping[str, Any] = jwt.decode(
                text,
                key,
                algorithms=[algorithm],
                audience=self._provider.audience,
                issuer=self._provider.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise _refused("it has expired", reason="token-expired") from None
        except jwt.InvalidTokenError as error:
            raise _refused(_words(error)) from None
        return claims


def _refused(why: str, *, reason: str = "") -> Unauthenticated:
    return Unauthenticated(
        f"the token is not accepted: {why}.",
        hint="Get a new one from the identity provider, then `fed login`.",
        reason=reason,
    )


def _words(error: jwt.InvalidTokenError) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"it lacks the claim {error.claim!r}"
    if isinstance(error, jwt.InvalidAudienceError):
        return "it is meant for somebody else"
    if isinstance(error, jwt.InvalidIssuerError):
        return "another issuer made it"
    if isinstance(error, jwt.ImmatureSignatureError):
        return "it is not valid yet"
    return "its signature or content is wrong"


def _values(claims: Mapping[str, Any], path: str) -> list[str]:
    """Return the values of a claim, a text or a list of texts; "a.b" looks into claim "a"."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    values = found if isinstance(found, list) else [found]
    return [value for value in values if isinstance(value, str)]


def _name(claims: Mapping[str, Any]) -> str:
    """Return the name for the audit: an address only if the provider vouches for it."""
    email, subject = claims.get("email"), str(claims["sub"])
    name = email if isinstance(email, str) and claims.get("email_verified") is True else subject
    return "".join(c for c in name if c.isprintable() and not c.isspace())[:_MAX_NAME] or "unnamed"


class _Keys:
    """The provider's public keys by id."""

    def __init__(self, provider: Provider, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock
        self._by_id: dict[str | None, jwt.PyJWK] = {}
        self._tried_s: float | None = None
        self._fetched_s = 0.0
        self._failure = ""
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"{len(self._by_id)} keys"

    async def find(self, kid: str | None) -> jwt.PyJWK | None:
        """Return the key of an id, None if there is none; raises Unavailable if nobody can tell.

        A token may leave the id out if the provider has one key alone.
        """
        if self._lacks(kid):
            async with self._lock:
                if self._lacks(kid) and self._may_ask():
                    await self._refresh()
        if kid is None and len(self._by_id) == 1:
            return next(iter(self._by_id.values()))
        if kid not in self._by_id and self._failure:
            raise Unavailable(
                f"the identity provider's keys cannot be had: {self._failure}.",
                hint="Try again in a minute; the admin token works meanwhile.",
            )
        return self._by_id.get(kid)

    def _lacks(self, kid: str | None) -> bool:
        old = self._clock.monotonic_s() - self._fetched_s >= MAX_AGE_S
        return kid not in self._by_id or old

    def _may_ask(self) -> bool:
        return self._tried_s is None or self._clock.monotonic_s() - self._tried_s >= REFRESH_S

    async def _refresh(self) -> None:
        """Fetch the keys; after a failure those that are known stay."""
        self._tried_s = self._clock.monotonic_s()
        try:
            if self._provider.jwks_url:
                data = await _fetch(self._provider.jwks_url)
            else:
                data = await asyncio.to_thread(Path(self._provider.jwks_file).read_bytes)
            self._by_id = _parse(data)
            self._fetched_s = self._clock.monotonic_s()
            self._failure = ""
        except (OSError, aiohttp.ClientError, ValueError) as error:
            self._failure = str(error) or type(error).__name__
            log.warning("the identity provider's keys cannot be had", extra={"why": self._failure})


async def _fetch(url: str) -> bytes:
    """Return the body of a GET; raises OSError, ClientError, or ValueError for a bad answer."""
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise ValueError(f"it answered {response.status}")
        data = await response.content.read(MAX_JWKS_BYTES + 1)
        while len(data) <= MAX_JWKS_BYTES and (more := await response.content.readany()):
            data += more
    if len(data) > MAX_JWKS_BYTES:
        raise ValueError("its key set is too long")
    return data


def _parse(data: bytes) -> dict[str | None, jwt.PyJWK]:
    """Return the keys that can sign with an algorithm that we accept; raises ValueError."""
    document = json.loads(data)
    listed = document.get("keys") if isinstance(document, dict) else None
    found: dict[str | None, jwt.PyJWK] = {}
    for each in listed if isinstance(listed, list) else []:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(each)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue  # of a kind that we don't know
        if key.algorithm_name in ALGORITHMS:
            found[key.key_id] = key
    if not found:
        raise ValueError("it has no key of an algorithm that is accepted")
    return found
