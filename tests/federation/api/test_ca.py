"""The authority over HTTP: what is shown, and a rotation while peers are connected."""

import asyncio
import base64
from pathlib import Path

import aiohttp

from federation.app import ControlPlane
from federation.contract import codec_trust
from federation.contract.spiffe import control_plane_dns_name
from federation.trust.credentials import Credentials
from federation.trust.keys import new_key, sign, signing_request
from tests.fakes.control_plane import Operator, agent_hello, joined, operator, running, stream


async def test_the_roots_are_shown_with_their_pins(api: Operator, plane: ControlPlane) -> None:
    told = (await api.call("GET", "/api/v1/ca")).json
    (root,) = told["roots"]
    assert (root["phase"], root["pin"], root["until"]) == ("active", told["pin"], None)
    assert told["trustDomain"] == "federation.internal"


async def test_a_rotation_is_told_at_once_and_only_one_at_a_time(
    api: Operator, plane: ControlPlane
) -> None:
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.send(agent_hello("a"))
        before = codec_trust.trust_from_proto(await agent.expect("trust"))
        done = await api.call("POST", "/api/v1/ca/rotate")
        assert [root["phase"] for root in done.json["roots"]] == ["active", "prepared"]
        after = codec_trust.trust_from_proto(await agent.expect("trust"))
    assert after.version > before.version
    assert (len(before.roots), len(after.roots)) == (1, 2)
    again = await api.call("POST", "/api/v1/ca/rotate")
    assert (again.status, again.json["reason"]) == (409, "rotation-under-way")
    assert "RootPrepared" in [each.reason for each in plane.loop.state.audit.values()]


async def test_a_rotation_runs_through_and_who_keeps_renewing_stays(tmp_path: Path) -> None:
    """One leaf's life to tell of the new root, one to forget the old one; the agent renews."""
    async with running(tmp_path, leaf_seconds=2) as plane, operator(plane) as api:
        held = await api.member("a")
        first, old_pin = held.require()[1].roots, plane.keyring.rollover.active_pin
        await api.call("POST", "/api/v1/ca/rotate")
        bundles = set()
        async with asyncio.timeout(20):
            while held.require()[1].roots[0] in first:
                held = await renewed(plane, held)
                bundles.add(len(held.require()[1].roots))
                await asyncio.sleep(0.2)
        assert bundles == {1, 2}
        assert plane.keyring.rollover.active_pin != old_pin
        assert (tmp_path / "ca.pem").read_text() == plane.keyring.rollover.bundle()[0]
    async with (
        running(tmp_path, leaf_seconds=2) as plane,
        operator(plane) as api,
        stream(plane, "agent", await api.member("b")) as agent,
    ):
        await agent.send(agent_hello("b"))
        await agent.expect("welcome")


async def renewed(plane: ControlPlane, held: Credentials) -> Credentials:
    """Renew over a new connection that trusts what `held` does, as an agent does."""
    leaf, trust = held.require()
    key = new_key()
    csr = signing_request(key)
    proof = base64.b64encode(sign(leaf.key, csr.encode())).decode()
    body = {"certificate": leaf.certificate, "csr": csr, "proof": proof}
    url = f"https://{plane.http_address}/api/v1/renew"
    name = control_plane_dns_name(trust.trust_domain)
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, ssl=held.client_context(), server_hostname=name) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return joined(await answer.json(), key)
