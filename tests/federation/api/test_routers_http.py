"""Routers as the operator API has them: registered first, then seen."""

import pytest

from federation.app import ControlPlane
from federation.contract.spiffe import PeerRole
from tests.fakes.control_plane import Operator, router_hello, stream

REGISTER = "/api/v1/routers/r/register"


async def test_a_router_is_shown_from_its_registration_on(
    api: Operator, plane: ControlPlane
) -> None:
    answer = await api.call("POST", REGISTER, {"spec": {"description": "in the lobby"}})
    assert answer.status == 201
    document = answer.json["router"]
    assert document["spec"] == {"description": "in the lobby"}
    assert (document["status"]["joined"], document["status"]["connected"]) == (False, False)
    held = await api.join(answer.json["joinToken"])
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("r", reverse="192.0.2.1:7402"))
        await router.expect("snapshot")
        (shown,) = (await api.call("GET", "/api/v1/routers")).json["items"]
        assert (shown["status"]["joined"], shown["status"]["connected"]) == (True, True)
        assert shown["status"]["reverse_address"] == "192.0.2.1:7402"


async def test_a_taken_name_is_refused_with_the_remedy(api: Operator) -> None:
    await api.register_router("r")
    answer = await api.call("POST", REGISTER, {})
    assert answer.status == 409
    assert "fed router register r --rejoin" in answer.json["hint"]
    assert (await api.call("POST", REGISTER, {"rejoin": True})).status == 201


@pytest.mark.parametrize(
    ("name", "body"), [("A_b", {}), ("r", {"spec": {"colour": "red"}}), ("r", {"ttl": 5})]
)
async def test_bad_registrations(api: Operator, name: str, body: object) -> None:
    answer = await api.call("POST", f"/api/v1/routers/{name}/register", body)
    assert answer.status == 400
    assert (await api.call("GET", "/api/v1/routers")).json["items"] == []


async def test_a_removed_router_is_gone_for_good(api: Operator, plane: ControlPlane) -> None:
    held = await api.member("r", PeerRole.ROUTER)
    version = (await api.call("GET", "/api/v1/routers/r")).json["metadata"]["resourceVersion"]
    stale = await api.call("DELETE", f"/api/v1/routers/r?resourceVersion={version - 1}")
    assert stale.status == 409
    assert (await api.call("DELETE", "/api/v1/routers/r?dryRun=true")).status == 200
    assert (await api.call("DELETE", "/api/v1/routers/r")).status == 200
    assert (await api.call("GET", "/api/v1/routers/r")).status == 404
    assert plane.publisher.trust.newest is not None
    facts = held.require()[0].facts
    assert plane.publisher.trust.newest.refuses(facts.id.uri, facts.generation)
