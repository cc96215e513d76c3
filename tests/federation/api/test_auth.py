import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from federation.api.auth import Gate, Known, bearer
from federation.app import ControlPlane
from federation.contract.access import Grant, Role
from federation.contract.errors import FederationError, Unauthenticated
from federation.contract.resources import ClusterSpec, RouterSpec
from federation.contract.spiffe import PeerId, PeerRole, serial_number
from federation.contract.trust import Revocation, Trust
from federation.identity.tokens import TokenKind, digest, mint, parse
from federation.policy.access.records import KeyKind, KeyRecord
from federation.policy.access.roles import Caller
from federation.policy.membership.records import Membership, RouterRecord
from federation.policy.meta import Meta
from federation.runtime.clock import ManualClock
from tests.fakes.control_plane import LOCATION, Operator, operator, running
from tests.federation.identity.test_oidc import AUDIENCE, ISSUER, STRANGER, public, token
from tests.federation.policy.world import World

ADMIN = parse(mint(TokenKind.ADMIN, "local"))
ALICE = mint(TokenKind.USER, "alice")
PROD = mint(TokenKind.INFERENCE, "prod")
PEPPER = "5a" * 32
VIEWER = (Grant(role=Role.VIEWER),)
FORMAT = "%b %d %H:%M:%S %Y GMT"


class FakePeople:
    """An identity provider that knows one token."""

    async def caller(self, text: str) -> Caller:
        if text != "known":
            raise Unauthenticated("unknown.")
        return Caller(name="oidc/u", grants=VIEWER)


class Door:
    """A gate over a State in which alice may read, and prod is a tenant's key."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.world = World()
        self.state = self.world.state
        self.state.pepper = PEPPER
        self.trust: Trust | None = Trust(version=1, trust_domain="fed.test", roots=())
        self.keep("alice", KeyKind.USER, ALICE, grants=VIEWER)
        self.keep("prod", KeyKind.INFERENCE, PROD, tenant="acme")
        self.people: FakePeople | None = None

    def keep(self, id: str, kind: KeyKind, text: str, **fields: Any) -> None:
        self.state.keys[id] = KeyRecord(
            meta=self.meta(id),
            kind=kind,
            digest=digest(PEPPER, text),
            created_by="admin/local",
            **fields,
        )

    def meta(self, name: str) -> Meta:
        return Meta(name=name, generation=1, resource_version=1, created_at=self.clock.utc())

    def member(self, role: PeerRole, name: str, membership: Membership) -> None:
        if role is PeerRole.ROUTER:
            self.state.registered_routers[name] = RouterRecord(
                meta=self.meta(name), spec=RouterSpec(), membership=membership
            )
            return
        self.world.region("eu")
        self.world.register(name, ClusterSpec(region="eu"))
        held = self.state.clusters[name]
        self.state.clusters[name] = replace(held, membership=membership)

    async def admit(
        self, header: str | None, certificate: Mapping[str, Any] | None = None
    ) -> Caller:
        known = Known(
            state=lambda: self.state,
            trust=lambda: self.trust,
            admin=ADMIN,
            clock=self.clock,
            people=self.people,
        )
        transport = Mock()
        transport.get_extra_info = lambda name, default=None: (
            certificate if name == "peercert" else default
        )
        headers = {} if header is None else {"Authorization": header}
        return await Gate(known).admit(
            make_mocked_request("GET", "/", headers=headers, transport=transport)
        )


@pytest.fixture
def door() -> Door:
    return Door()


async def test_known_callers_are_let_in(door: Door) -> None:
    admin = await door.admit(f"Bearer {ADMIN.text}")
    assert admin == Caller(name="admin/local", grants=(Grant(role=Role.ADMIN),))
    assert await door.admit(f"bearer  {ALICE}") == Caller(name="user/alice", grants=VIEWER)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        ADMIN.text,
        f"Basic {ADMIN.text}",
        f"Bearer {ADMIN.text}x",
        f"Bearer {mint(TokenKind.ADMIN, 'local')}",
        f"Bearer {mint(TokenKind.USER, 'alice')}",
        f"Bearer {mint(TokenKind.USER, 'nobody')}",
        f"Bearer {mint(TokenKind.USER, 'prod')}",
        f"Bearer {PROD}",
        f"Bearer {mint(TokenKind.JOIN, 'a')}",
        f"Bearer {mint(TokenKind.ROUTER_JOIN, 'a')}",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
    ],
    ids=lambda header: (header or "")[:12],  # no secret, and the same in each process
)
async def test_strangers_are_not(door: Door, header: str | None) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await door.admit(header)
    assert not header or header[7:] not in refused.value.sentence() or len(header) < 9


async def test_a_key_ends_when_it_expires_rotates_or_is_revoked(door: Door) -> None:
    shown = f"Bearer {ALICE}"
    door.keep(
        "alice", KeyKind.USER, ALICE, grants=VIEWER, expires_at=door.clock.utc() + timedelta(1)
    )
    await door.admit(shown)
    door.clock.advance(86_400)
    with pytest.raises(Unauthenticated) as refused:
        await door.admit(shown)
    assert refused.value.reason == "key-expired"
    door.keep("alice", KeyKind.USER, mint(TokenKind.USER, "alice"), grants=VIEWER)
    with pytest.raises(Unauthenticated):
        await door.admit(shown)
    del door.state.keys["alice"]
    with pytest.raises(Unauthenticated):
        await door.admit(shown)


async def test_a_digest_under_another_pepper_opens_nothing(door: Door) -> None:
    door.state.pepper = "00" * 32
    with pytest.raises(Unauthenticated):
        await door.admit(f"Bearer {ALICE}")


async def test_an_identity_provider_is_asked_for_all_that_is_not_ours(door: Door) -> None:
    door.people = FakePeople()
    assert (await door.admit("Bearer known")).name == "oidc/u"
    assert (await door.admit(f"Bearer {ALICE}")).name == "user/alice"
    with pytest.raises(Unauthenticated):
        await door.admit("Bearer unknown")
    with pytest.raises(Unauthenticated):
        await door.admit(f"Bearer {mint(TokenKind.USER, 'nobody')}")


# ------------------------------------------------------------ peers


def certificate(
    uri: str, *, generation: int = 7, not_after: datetime | None = None
) -> dict[str, Any]:
    """What `getpeercert()` gives of a verified certificate."""
    until = not_after or ManualClock().utc() + timedelta(hours=1)
    return {
        "subjectAltName": (("URI", uri), ("DNS", "x")),
        "serialNumber": f"{serial_number(generation, 5):X}",
        "notAfter": until.strftime(FORMAT),
    }


AGENT = PeerId("fed.test", PeerRole.CLUSTER, "a")
MEMBER = Membership(generation=7)


async def test_members_are_let_in_by_their_certificate(door: Door) -> None:
    door.member(PeerRole.CLUSTER, "a", MEMBER)
    door.member(PeerRole.ROUTER, "r", MEMBER)
    caller = await door.admit(None, certificate(AGENT.uri))
    assert caller == Caller(name="cluster/a", peer=AGENT)
    router = PeerId("fed.test", PeerRole.ROUTER, "r")
    assert (await door.admit(None, certificate(router.uri))).name == "router/r"


async def test_a_bearer_token_speaks_before_the_certificate(door: Door) -> None:
    door.member(PeerRole.CLUSTER, "a", MEMBER)
    assert (await door.admit(f"Bearer {ALICE}", certificate(AGENT.uri))).name == "user/alice"
    with pytest.raises(Unauthenticated):
        await door.admit("Bearer x", certificate(AGENT.uri))


@pytest.mark.parametrize(
    "membership",
    [
        Membership(),
        Membership(generation=7, accepted=False),
        Membership(generation=7, revoked=True),
        Membership(generation=8),
    ],
)
async def test_those_who_are_no_members_any_more_are_not(
    door: Door, membership: Membership
) -> None:
    door.member(PeerRole.CLUSTER, "a", membership)
    with pytest.raises(Unauthenticated) as refused:
        await door.admit(None, certificate(AGENT.uri))
    assert refused.value.reason == "no-member"


@pytest.mark.parametrize(
    "shown",
    [
        certificate("spiffe://fed.test/cluster/unknown"),
        certificate("spiffe://fed.test/router/a"),
        certificate("spiffe://fed.test/control-plane/a"),
        certificate("spiffe://else.test/cluster/a"),
        certificate("https://fed.test/cluster/a"),
        certificate(AGENT.uri, not_after=ManualClock().utc()),
        {"subjectAltName": (), "serialNumber": "1", "notAfter": "Jan  1 00:00:00 2030 GMT"},
    ],
)
async def test_certificates_of_others_are_refused(door: Door, shown: Mapping[str, Any]) -> None:
    door.member(PeerRole.CLUSTER, "a", MEMBER)
    with pytest.raises(FederationError):
        await door.admit(None, shown)


async def test_a_revoked_certificate_is_refused_and_so_is_one_before_trust(door: Door) -> None:
    door.member(PeerRole.CLUSTER, "a", MEMBER)
    revoked = (Revocation(uri=AGENT.uri, below=8),)
    door.trust = Trust(version=2, trust_domain="fed.test", roots=(), revoked=revoked)
    with pytest.raises(Unauthenticated, match="revoked"):
        await door.admit(None, certificate(AGENT.uri))
    door.trust = None
    with pytest.raises(Unauthenticated):
        await door.admit(None, certificate(AGENT.uri))


def test_a_refusal_does_not_repeat_the_token() -> None:
    with pytest.raises(Unauthenticated) as raised:
        parse(bearer(f"Bearer {ADMIN.text}!"))
    assert ADMIN.text not in raised.value.sentence()


async def test_every_route_but_the_open_ones_needs_a_token(
    api: Operator, plane: ControlPlane
) -> None:
    for route in plane.api.routes:
        path = route.path.replace("{", "").replace("}", "")
        answer = await api.call(route.method, path, headers={"Authorization": ""})
        assert (answer.status == 401) is bool(route.needs), f"{route.method} {route.path}"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:7480", 200),
        ("127.0.0.1:7480", 200),
        ("[::1]:7480", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:80", 403),
        ("[evil", 403),
    ],
)
async def test_only_known_host_names_are_served(api: Operator, host: str, status: int) -> None:
    answer = await api.call("GET", "/api/v1/regions", headers={"Host": host})
    assert answer.status == status


async def test_people_of_an_identity_provider_call_with_its_tokens(tmp_path: Path) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps({"keys": [public("ES256", "k1")]}))
    settings = {
        "oidc_issuer": ISSUER,
        "oidc_audience": AUDIENCE,
        "oidc_jwks_file": str(jwks),
        "oidc_roles": ("sre=operator:eu-west", "audit=viewer"),
    }
    async with running(tmp_path / "state", **settings) as plane, operator(plane) as api:
        await api.put("Region", "eu-west", {"location": LOCATION})
        email: dict[str, Any] = {"email": "alice@example.com", "email_verified": True}
        for groups, status in ((["sre"], 201), (["audit"], 403), (["none"], 403)):
            shown = {"Authorization": f"Bearer {token(groups=groups, **email)}"}
            body = {"spec": {"region": "eu-west"}}
            answer = await api.call(
                "POST", f"/api/v1/clusters/{groups[0]}/register", body, headers=shown
            )
            assert answer.status == status, answer.body
            who = await api.call("GET", "/api/v1/whoami", headers=shown)
            assert who.json["name"] == "oidc/alice@example.com"
        told = [e["status"] for e in (await api.call("GET", "/api/v1/events")).json["items"]]
        assert told[-1]["actor"] == "oidc/alice@example.com"
        strange = {"Authorization": f"Bearer {token(key=STRANGER)}"}
        assert (await api.call("GET", "/api/v1/whoami", headers=strange)).status == 401
