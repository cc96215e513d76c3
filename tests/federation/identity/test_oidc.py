"""Tokens of an identity provider, made here with real keys and served by a real JWKS server."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from federation.contract.access import Grant, Role
from federation.contract.errors import Invalid, Unauthenticated, Unavailable
from federation.identity.oidc import MAX_AGE_S, REFRESH_S, Oidc, Provider, parse_roles, provider
from federation.runtime.clock import ManualClock

ISSUER, AUDIENCE = "https://id.example.com", "inference-federation"
ROLES = parse_roles(["admins=admin", "sre=operator:eu", "sre=operator:us", "ml=model-owner:ocr-*"])

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
STRANGER = ec.generate_private_key(ec.SECP256R1())
SIGNERS: dict[str, tuple[Any, Any]] = {
    "RS256": (RSA, RSAAlgorithm),
    "ES256": (EC, ECAlgorithm),
    "EdDSA": (ED, OKPAlgorithm),
}


def public(algorithm: str, kid: str, key: Any = None) -> dict[str, Any]:
    made, maker = SIGNERS[algorithm]
    return {**maker.to_jwk((key or made).public_key(), as_dict=True), "kid": kid}


def token(
    algorithm: str = "ES256", *, kid: str | None = "k1", key: Any = None, **claims: Any
) -> str:
    """A token that is valid unless `claims` make it otherwise; None takes a claim away."""
    whole = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "u-1",
        "exp": datetime.now(UTC) + timedelta(minutes=5),
        "groups": ["ml"],
    } | claims
    sent = {name: value for name, value in whole.items() if value is not None}
    headers = {"kid": kid} if kid else {}
    return jwt.encode(sent, key or SIGNERS[algorithm][0], algorithm, headers=headers)


@dataclass
class Server:
    """An identity provider's key set, and how often it was asked for."""

    keys: list[dict[str, Any]] = field(default_factory=lambda: [public("ES256", "k1")])
    asked: int = 0
    broken: bool = False
    url: str = ""

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.broken:
            return web.Response(status=500)
        return web.json_response({"keys": self.keys})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_get("/jwks", made.answer)
    async with TestServer(app) as listening:
        made.url = str(listening.make_url("/jwks"))
        yield made


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def settings(server: Server) -> Provider:
    return Provider(
        issuer=ISSUER, audience=AUDIENCE, claim="groups", roles=ROLES, jwks_url=server.url
    )


@pytest.fixture
def oidc(settings: Provider, clock: ManualClock) -> Oidc:
    return Oidc(settings, clock)


@pytest.mark.parametrize("algorithm", SIGNERS)
async def test_each_algorithm_is_accepted(oidc: Oidc, server: Server, algorithm: str) -> None:
    server.keys = [public(algorithm, "k1")]
    caller = await oidc.caller(token(algorithm))
    assert caller.name == "oidc/u-1"
    assert caller.grants == (Grant(role=Role.MODEL_OWNER, models=("ocr-*",)),)
    await oidc.caller(token(algorithm))
    assert server.asked == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"aud": "another"}, "somebody else"),
        ({"aud": None}, "'aud'"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"iss": None}, "'iss'"),
        ({"exp": datetime.now(UTC) - timedelta(hours=2)}, "expired"),
        ({"exp": None}, "'exp'"),
        ({"sub": None}, "'sub'"),
        ({"nbf": datetime.now(UTC) + timedelta(hours=2)}, "not valid yet"),
        ({"key": STRANGER}, "signature"),
        ({"kid": "unknown"}, "does not publish"),
    ],
)
async def test_what_is_not_right_is_refused(oidc: Oidc, change: dict[str, Any], words: str) -> None:
    text = token(**change)
    with pytest.raises(Unauthenticated, match=words) as refused:
        await oidc.caller(text)
    assert text not in refused.value.sentence()


def unsigned() -> str:
    return jwt.encode({"sub": "x"}, "", algorithm="none")


def symmetric() -> str:
    """The old trick: the public key as the secret of an HMAC."""
    secret = public("ES256", "k1")["x"].encode()
    return jwt.encode({"sub": "x"}, secret, algorithm="HS256", headers={"kid": "k1"})


@pytest.mark.parametrize(
    "text", ["", "a.b.c", "x" * 20_000, "....", "é.é.é", unsigned(), symmetric()]
)
async def test_no_token_at_all_asks_nobody(oidc: Oidc, server: Server, text: str) -> None:
    with pytest.raises(Unauthenticated):
        await oidc.caller(text)
    assert server.asked == 0


async def test_the_key_decides_the_algorithm_and_not_the_token(oidc: Oidc, server: Server) -> None:
    server.keys = [public("RS256", "k1")]
    with pytest.raises(Unauthenticated):
        await oidc.caller(token("ES256"))


async def test_an_unknown_key_is_looked_for_once_a_minute(
    oidc: Oidc, server: Server, clock: ManualClock
) -> None:
    await oidc.caller(token())
    server.keys.append(public("ES256", "k2", STRANGER))
    new = token(kid="k2", key=STRANGER)
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await oidc.caller(new)
    assert server.asked == 1
    clock.advance(REFRESH_S)
    assert (await oidc.caller(new)).name == "oidc/u-1"
    assert server.asked == 2


async def test_a_key_that_was_withdrawn_ends_within_minutes(
    oidc: Oidc, server: Server, clock: ManualClock
) -> None:
    await oidc.caller(token())
    server.keys = [public("ES256", "k2", STRANGER)]
    clock.advance(MAX_AGE_S)
    with pytest.raises(Unauthenticated):
        await oidc.caller(token())


async def test_known_keys_outlive_the_provider(
    oidc: Oidc, server: Server, clock: ManualClock
) -> None:
    await oidc.caller(token())
    server.broken = True
    clock.advance(MAX_AGE_S)
    assert (await oidc.caller(token())).name == "oidc/u-1"
    with pytest.raises(Unavailable, match="500"):
        await oidc.caller(token(kid="k2"))


@pytest.mark.parametrize("body", [[], [{}], [{"kty": "oct", "k": "AAAA"}], [{"kty": "EC"}], [7]])
async def test_a_useless_key_set_is_told(oidc: Oidc, server: Server, body: list[Any]) -> None:
    server.keys = body
    with pytest.raises(Unavailable, match="no key"):
        await oidc.caller(token())


async def test_a_key_set_that_cannot_be_reached_is_told(
    settings: Provider, clock: ManualClock
) -> None:
    away = Oidc(replace(settings, jwks_url="http://127.0.0.1:9/jwks"), clock)
    with pytest.raises(Unavailable, match="identity provider"):
        await away.caller(token())


async def test_keys_can_lie_in_a_file(
    settings: Provider, clock: ManualClock, tmp_path: Path
) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [public("ES256", "k1")]}))
    oidc = Oidc(replace(settings, jwks_url="", jwks_file=str(path)), clock)
    assert (await oidc.caller(token())).name == "oidc/u-1"
    assert (await oidc.caller(token(kid=None))).name == "oidc/u-1"


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"email": "alice@example.com", "email_verified": True}, "oidc/alice@example.com"),
        ({"email": "admin@example.com", "email_verified": False}, "oidc/u-1"),
        ({"email": "admin@example.com"}, "oidc/u-1"),
        ({"sub": "a\nb c" + "x" * 500}, "oidc/abc" + "x" * 125),
    ],
)
async def test_the_name_is_one_that_the_provider_vouches_for(
    oidc: Oidc, claims: dict[str, Any], name: str
) -> None:
    assert (await oidc.caller(token(**claims))).name == name


@pytest.mark.parametrize(
    ("claim", "claims", "roles"),
    [
        ("groups", {"groups": "admins"}, [Role.ADMIN]),
        ("groups", {"groups": ["nobody", "sre"]}, [Role.OPERATOR, Role.OPERATOR]),
        ("groups", {"groups": ["ml", "ml"]}, [Role.MODEL_OWNER]),
        ("groups", {"groups": None}, []),
        ("groups", {"groups": [{"a": 1}, 7]}, []),
        ("realm_access.roles", {"realm_access": {"roles": ["admins"]}}, [Role.ADMIN]),
        ("realm_access.roles", {"realm_access": "admins"}, []),
        ("https://x.y/groups", {"https://x.y/groups": ["admins"]}, [Role.ADMIN]),
    ],
)
async def test_claims_give_roles(
    settings: Provider, clock: ManualClock, claim: str, claims: dict[str, Any], roles: list[Role]
) -> None:
    oidc = Oidc(replace(settings, claim=claim), clock)
    caller = await oidc.caller(token(**claims))
    assert [grant.role for grant in caller.grants] == roles


def make(**change: Any) -> Provider | None:
    given: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jwks": ("https://id.example.com/jwks", ""),
        "claim": "groups",
        "roles": ("admins=admin",),
    }
    return provider(**(given | change))


def test_a_provider_is_whole_or_none() -> None:
    assert make(issuer="", audience="", jwks=("", ""), roles=()) is None
    made = make()
    assert made is not None
    assert made.roles == {"admins": (Grant(role=Role.ADMIN),)}


@pytest.mark.parametrize(
    "change",
    [
        {"audience": ""},
        {"issuer": ""},
        {"jwks": ("", "")},
        {"jwks": ("https://x/y", "file")},
        {"jwks": ("http://id.example.com/jwks", "")},
        {"jwks": ("file:///etc/passwd", "")},
        {"roles": ()},
        {"roles": ("admins",)},
        {"roles": ("=admin",)},
        {"roles": ("admins=root",)},
        {"roles": ("admins=admin:eu",)},
        {"roles": ("ml=model-owner:[a",)},
        {"roles": ("sre=operator:EU west",)},
    ],
)
def test_half_a_provider_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        make(**change)


def test_a_value_of_the_claim_may_hold_anything() -> None:
    assert parse_roles(["/teams/a=b=viewer"]) == {"/teams/a=b": (Grant(role=Role.VIEWER),)}
