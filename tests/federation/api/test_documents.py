import asyncio
from typing import Any

import msgspec
import pytest
from openapi_schema_validator import OAS31Validator

from federation.api.documents import DOCUMENTS, LISTS
from federation.api.documents_sync import Transfers
from federation.app import ControlPlane
from federation.contract.resources import KINDS
from federation.contract.spiffe import PeerRole
from federation.contract.types import ObservedVersion, VersionState
from tests.fakes.control_plane import (
    Operator,
    agent_hello,
    agent_report,
    router_hello,
    stream,
)


def strict(schema: Any) -> Any:
    """Return the schema of an object that may have no other keys."""
    if isinstance(schema, dict):
        closed = {key: strict(value) for key, value in schema.items()}
        if "properties" in schema:
            closed["additionalProperties"] = False
        return closed
    return [strict(each) for each in schema] if isinstance(schema, list) else schema


def check(document: object, cls: type) -> None:
    """Fail if a document has keys that its type does not tell, or lacks one, or a type differs."""
    template = "#/$defs/{name}"
    _, components = msgspec.json.schema_components([cls], ref_template=template)
    schema = {"$ref": f"#/$defs/{cls.__name__}", "$defs": strict(components)}
    errors = [f"{e.json_path}: {e.message}" for e in OAS31Validator(schema).iter_errors(document)]
    assert errors == []


async def inhabit(api: Operator, plane: ControlPlane, agent: Any, router: Any) -> None:
    """Let there be one of everything."""
    await agent.send(agent_hello("a"))
    epoch = (await agent.expect("welcome")).epoch
    await agent.send(agent_report("a", epoch, 1))
    await agent.expect("lease_renewed")
    digest = (await api.push("m")).json["digest"]
    await api.put("Deployment", "d", {"model": "m", "version": 1})
    version = ObservedVersion(model="m", version=1, digest=digest, state=VersionState.WARMED)
    await agent.send(agent_report("a", epoch, 2, generation=9, versions=(version,)))
    await agent.expect("lease_renewed")
    assert (await api.push("m", b"better")).status == 201
    spec = {"model": "m", "version": 2}
    assert (await api.call("POST", "/api/v1/rollouts", {"spec": spec})).status == 201
    await api.put("Prefetch", "p", {"model": "m", "version": 1})
    await api.put("Tenant", "t", {})
    await api.call("POST", "/api/v1/keys/k", {"tenant": "t"})
    await router.send(router_hello("r"))
    await router.expect("snapshot")


async def test_the_types_tell_what_the_views_show(api: Operator, plane: ControlPlane) -> None:
    await api.register("never-joined")
    held = await api.member("a")
    routers_own = await api.member("r", PeerRole.ROUTER)
    async with (
        asyncio.timeout(20),
        stream(plane, "agent", held) as agent,
        stream(plane, "router", routers_own) as router,
    ):
        await inhabit(api, plane, agent, router)
        transfers = await api.call("GET", "/api/v1/sync")
        assert transfers.json["items"]
        check(transfers.json, Transfers)
        for kind in KINDS:
            listed = await api.call("GET", f"/api/v1/{kind.plural}")
            assert listed.json["items"], kind.name
            check(listed.json, LISTS[kind.name])
            for document in listed.json["items"]:
                check(document, DOCUMENTS[kind.name])


def test_a_key_too_many_is_noticed() -> None:
    with pytest.raises(AssertionError, match="extra"):
        check({"extra": 1}, DOCUMENTS["Region"])
