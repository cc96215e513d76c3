"""Joining and renewing over real HTTPS: who gets a certificate, and who does not."""

import asyncio
import base64
import hashlib
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from federation.app import ControlPlane
from federation.contract.spiffe import PeerId, PeerRole
from federation.identity.tokens import TokenKind, mint
from federation.trust.credentials import Credentials
from federation.trust.keys import facts_of, new_key, sign, signing_request
from tests.fakes.control_plane import (
    Answer,
    Operator,
    agent_hello,
    joined,
    operator,
    running,
    stream,
)
from tests.pki import issue_into, make_authority

OPEN = {"Authorization": ""}
REGISTER = "/api/v1/clusters/a/register"


async def join(api: Operator, token: str, key: str) -> Answer:
    body = {"token": token, "csr": signing_request(key)}
    return await api.call("POST", "/api/v1/join", body, headers=OPEN)


async def renew(api: Operator, held: Credentials, *, key: str = "", signer: str = "") -> Answer:
    leaf, _ = held.require()
    csr = signing_request(key or new_key())
    proof = base64.b64encode(sign(signer or leaf.key, csr.encode())).decode()
    body = {"certificate": leaf.certificate, "csr": csr, "proof": proof}
    return await api.call("POST", "/api/v1/renew", body, headers=OPEN)


def reason(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["reason"]


async def test_the_roots_are_told_to_everyone_and_match_the_pin(
    api: Operator, plane: ControlPlane
) -> None:
    await api.register("other")
    answer = await api.call("POST", REGISTER, {"spec": {"region": "eu-west"}})
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{api.base}/api/v1/trust", ssl=unverified) as response,
    ):
        told = await response.json()
    (root,) = told["roots"]
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(root)).hexdigest()
    assert answer.json["caPin"] == f"sha256:{digest}"
    assert told["trustDomain"] == "federation.internal"
    assert (plane.keyring.rollover.bundle()) == (root,)


async def test_a_token_makes_one_key_a_member(api: Operator, plane: ControlPlane) -> None:
    token, key = await api.register("a"), new_key()
    answer = await join(api, token, key)
    assert answer.status == 200
    assert answer.json["identity"] == "spiffe://federation.internal/cluster/a"
    facts = facts_of(answer.json["certificate"])
    assert str(facts.id) == answer.json["identity"]
    membership = plane.loop.state.clusters["a"].membership
    assert facts.generation == membership.generation > 0
    assert datetime.fromisoformat(answer.json["notAfter"]) == facts.not_after
    assert answer.json["trust"]["roots"] == list(plane.keyring.rollover.bundle())
    shown = (await api.call("GET", "/api/v1/clusters/a")).json["status"]
    assert (shown["joined"], shown["certificate_generation"]) == (True, facts.generation)


async def test_a_lost_answer_is_had_again_with_the_same_key(api: Operator) -> None:
    token, key = await api.register("a"), new_key()
    first, again = await join(api, token, key), await join(api, token, key)
    assert (first.status, again.status) == (200, 200)
    generations = {facts_of(a.json["certificate"]).generation for a in (first, again)}
    assert len(generations) == 1


async def test_a_used_token_is_worth_nothing_to_another_key(api: Operator) -> None:
    token = await api.register("a")
    assert (await join(api, token, new_key())).status == 200
    replayed = await join(api, token, new_key())
    assert reason(replayed) == (409, "join-token-used")
    assert "--rejoin" in replayed.json["hint"]


async def test_of_two_that_race_with_one_token_exactly_one_joins(
    api: Operator, plane: ControlPlane
) -> None:
    for attempt in range(5):
        token = await api.register(f"racer-{attempt}")
        answers = await asyncio.gather(*(join(api, token, new_key()) for _ in range(4)))
        assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]


@pytest.mark.parametrize("kind", [TokenKind.JOIN, TokenKind.ROUTER_JOIN])
async def test_a_wrong_token_says_the_same_for_every_name(api: Operator, kind: TokenKind) -> None:
    await api.register("a")
    known = await join(api, mint(kind, "a"), new_key())
    unknown = await join(api, mint(kind, "nobody"), new_key())
    assert reason(known) == reason(unknown) == (401, "join-token-wrong")
    assert known.json["detail"].replace("'a'", "'nobody'") == unknown.json["detail"]


async def test_a_token_does_not_open_another_name_or_role(api: Operator) -> None:
    token, _ = await api.register("a"), await api.register("b")
    for forged in (token.replace("_a_", "_b_"), token.replace("_join_", "_routerjoin_")):
        assert reason(await join(api, forged, new_key())) == (401, "join-token-wrong")
    admin = await join(api, mint(TokenKind.ADMIN, "local"), new_key())
    assert reason(admin) == (401, "join-token-wrong")
    assert (await join(api, token, new_key())).status == 200  # none of it used it up


async def test_an_expired_token_is_refused(api: Operator) -> None:
    await api.register("other")
    body = {"spec": {"region": "eu-west"}, "tokenTtlSeconds": 1}
    token = await api.join_token(REGISTER, body)
    expires_at = (await api.call("GET", "/api/v1/clusters/a")).json["metadata"]["createdAt"]
    left = datetime.fromisoformat(expires_at).timestamp() + 1.05 - datetime.now(UTC).timestamp()
    await asyncio.sleep(max(0.0, left))
    assert reason(await join(api, token, new_key())) == (401, "join-token-expired")


@pytest.mark.parametrize("what", ["nonsense", "foreign-signature", "huge", "no-json"])
async def test_what_is_no_signing_request_uses_nothing_up(api: Operator, what: str) -> None:
    token, key = await api.register("a"), new_key()
    csr = signing_request(key)
    bodies: dict[str, Any] = {
        "nonsense": {"token": token, "csr": "x"},
        "foreign-signature": {"token": token, "csr": _tampered(csr)},
        "huge": {"token": token, "csr": csr + " " * 40_000},
        "no-json": "[]",
    }
    answer = await api.call("POST", "/api/v1/join", bodies[what], headers=OPEN)
    assert answer.status == (413 if what == "huge" else 400)
    assert (await join(api, token, key)).status == 200


def _tampered(csr: str) -> str:
    """Change the last byte of the signature."""
    der = bytearray(base64.b64decode("".join(csr.strip().splitlines()[1:-1])))
    der[-1] ^= 1
    text = base64.encodebytes(bytes(der)).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


async def test_who_needs_an_operators_word_waits_for_it(api: Operator, plane: ControlPlane) -> None:
    await api.register("other")
    body = {"spec": {"region": "eu-west"}, "requireAccept": True}
    token, key = await api.join_token(REGISTER, body), new_key()
    early = await api.call("POST", "/api/v1/clusters/a/accept")
    assert reason(early) == (409, "nobody-waits")
    waiting = await join(api, token, key)
    assert (waiting.status, waiting.json) == (202, {"state": "awaiting-acceptance"})
    assert (await join(api, token, key)).status == 202
    assert reason(await join(api, token, new_key())) == (409, "join-token-used")
    shown = (await api.call("GET", "/api/v1/clusters/a")).json["status"]
    assert (shown["accepted"], len(shown["waiting_key_sha256"])) == (False, 64)
    assert "fed cluster accept a" in shown["reason"]
    accepted = await api.call("POST", "/api/v1/clusters/a/accept")
    assert accepted.json["status"]["accepted"] is True
    answer = await join(api, token, key)
    assert answer.status == 200
    async with stream(plane, "agent", joined(answer.json, key)) as agent:
        await agent.send(agent_hello("a"))
        await agent.expect("welcome")


async def test_routers_join_the_same_way(api: Operator, plane: ControlPlane) -> None:
    held = await api.member("r", PeerRole.ROUTER)
    assert held.require()[0].facts.id.uri == "spiffe://federation.internal/router/r"
    shown = (await api.call("GET", "/api/v1/routers/r")).json["status"]
    assert (shown["joined"], shown["connected"]) == (True, False)


# ------------------------------------------------------------ renewing


async def test_a_renewed_certificate_is_of_the_same_join_with_a_new_key(
    api: Operator, plane: ControlPlane
) -> None:
    held, key = await api.member("a"), new_key()
    answer = await renew(api, held, key=key)
    assert answer.status == 200
    newer = joined(answer.json, key)
    old, new = held.require()[0].facts, newer.require()[0].facts
    assert (new.id, new.generation) == (old.id, old.generation)
    async with stream(plane, "agent", newer) as agent:
        await agent.send(agent_hello("a"))
        await agent.expect("welcome")


async def test_an_expired_certificate_is_renewed(tmp_path: Path) -> None:
    async with running(tmp_path, leaf_seconds=1) as plane, operator(plane) as api:
        held = await api.member("a")
        until = held.require()[0].facts.not_after
        await asyncio.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 0.01)
        assert (await renew(api, held)).status == 200


async def test_a_certificate_that_expired_too_long_ago_is_not_renewed(tmp_path: Path) -> None:
    settings = {"leaf_seconds": 1, "renew_grace_days": 0}
    async with running(tmp_path, **settings) as plane, operator(plane) as api:
        held = await api.member("a")
        until = held.require()[0].facts.not_after
        await asyncio.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 0.01)
        assert reason(await renew(api, held)) == (401, "certificate-expired")


async def test_a_revoked_or_removed_member_is_not_renewed(api: Operator) -> None:
    revoked, removed = await api.member("a"), await api.member("b")
    await api.call("POST", "/api/v1/clusters/a/revoke")
    await api.call("DELETE", "/api/v1/clusters/b")
    for held in (revoked, removed):
        assert reason(await renew(api, held)) == (401, "certificate-revoked")


async def test_the_certificate_of_an_earlier_join_is_not_renewed(api: Operator) -> None:
    old = await api.member("a")
    body = {"spec": {"region": "eu-west"}, "rejoin": True}
    await api.join(await api.join_token(REGISTER, body))
    assert reason(await renew(api, old)) == (401, "certificate-replaced")


async def test_who_does_not_hold_the_old_key_gets_nothing(api: Operator) -> None:
    held = await api.member("a")
    assert reason(await renew(api, held, signer=new_key())) == (401, "proof-wrong")
    leaf, _ = held.require()
    body = {"certificate": leaf.certificate, "csr": signing_request(new_key()), "proof": "§"}
    assert (await api.call("POST", "/api/v1/renew", body, headers=OPEN)).status == 400


async def test_a_certificate_of_another_authority_is_not_renewed(
    api: Operator, tmp_path: Path
) -> None:
    held = await api.member("a")
    other = make_authority(tmp_path / "other", trust_domain="federation.internal")
    id = PeerId("federation.internal", PeerRole.CLUSTER, "a")
    generation = held.require()[0].facts.generation
    issue_into(held, other, id, generation=generation)
    assert reason(await renew(api, held)) == (401, "certificate-unknown")


async def test_the_control_plane_renews_nobody_as_itself(
    api: Operator, plane: ControlPlane
) -> None:
    answer = await renew(api, plane.keyring.credentials)
    assert answer.status == 400


async def test_a_member_is_known_after_a_restart_and_trust_grows(tmp_path: Path) -> None:
    async with running(tmp_path, store="sqlite") as plane, operator(plane) as api:
        held, other = await api.member("a"), await api.member("b")
        await api.call("POST", "/api/v1/clusters/b/revoke")
        before = plane.publisher.trust.newest
    async with running(tmp_path, store="sqlite") as plane, operator(plane) as api:
        assert (await renew(api, held)).status == 200
        assert reason(await renew(api, other)) == (401, "certificate-revoked")
        after = plane.publisher.trust.newest
    assert before is not None
    assert after is not None
    assert after.version > before.version
    assert (after.roots, after.revoked) == (before.roots, before.revoked)
    assert len(after.revoked) == 1
