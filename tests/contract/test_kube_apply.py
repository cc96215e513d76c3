"""Server-side apply, status and deletion as the agent relies on them: the fake and real ones.

A real one takes part where FEDERATION_TEST_KUBECONFIG names it: see tests/contract/kube_servers.py.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from federation.kube.api import APPLY, Selection
from federation.kube.errors import Conflict, NotFound, Refused
from federation.kube.resources import (
    DEPLOYMENTS,
    LEASES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    RAY_SERVICES,
    RESOURCE_CLAIMS,
    SERVICES,
    Resource,
)
from tests.contract.kube_manifests import (
    budget,
    claim,
    deployment,
    lease,
    pod,
    ray_service,
    service,
)
from tests.contract.kube_servers import SERVERS, Server, kube_server

Obj = dict[str, Any]


@pytest.fixture(params=[pytest.param(name, marks=SERVERS[name][1]) for name in SERVERS])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    async with kube_server(request.param, tmp_path) as found:
        yield found


# ---------------------------------------------------------------- server-side apply


async def test_apply_creates_changes_and_leaves_alone(server: Server) -> None:
    created = await server.api.apply(deployment(server), manager="one")
    assert created["metadata"]["name"] == "triton"  # 201, and an object all the same
    assert created["metadata"]["generation"] == 1
    changed = await server.api.apply(
        deployment(server, image="example.com/triton:2"), manager="one"
    )
    assert changed["metadata"]["uid"] == created["metadata"]["uid"]
    assert changed["metadata"]["generation"] == 2
    (container,) = changed["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "example.com/triton:2"
    same = await server.api.apply(deployment(server, image="example.com/triton:2"), manager="one")
    assert same["metadata"]["generation"] == 2


async def test_the_statuses_of_apply(server: Server) -> None:
    path = LEASES.path(server.namespace, "one")
    query = {"fieldManager": "one", "force": "true"}
    with pytest.raises(Refused) as caught:
        await server.api.request("PATCH", path, body=lease(server, "one"), content_type=APPLY)
    assert caught.value.status == 422
    assert "fieldManager" in caught.value.message
    for expected in (201, 200):
        headers = {"Content-Type": APPLY}
        body = lease(server, "one")
        asked = server.api._ask("PATCH", path, query=query, body=body, headers=headers)
        async with asked as response:
            assert response.status == expected
            await response.read()


async def test_what_is_no_longer_applied_is_removed(server: Server) -> None:
    first = lease(server, "one", tier="gold")
    first["metadata"]["annotations"] = {"note": "kept by nobody else"}
    await server.api.apply(first, manager="one")
    second = lease(server, "one")
    del second["metadata"]["labels"]
    changed = await server.api.apply(second, manager="one")
    assert "tier" not in (changed["metadata"].get("labels") or {})
    assert not changed["metadata"].get("annotations")
    assert changed["spec"]["holderIdentity"] == "me"


async def test_another_managers_fields_are_a_conflict_that_names_it(server: Server) -> None:
    await server.api.apply(deployment(server), manager="first")
    other = deployment(server)
    other["spec"]["replicas"] = 1
    other["spec"]["template"]["spec"]["nodeSelector"] = {"federation.inference/none": "true"}
    with pytest.raises(Conflict, match=r"\.spec\.replicas") as caught:
        await server.api.apply(other, manager="second", force=False)
    assert caught.value.managers == ("first",)
    untouched = await server.api.get(DEPLOYMENTS, server.namespace, "triton")
    assert untouched["spec"]["replicas"] == 0
    taken = await server.api.apply(other, manager="second", force=True)
    assert taken["spec"]["replicas"] == 1
    with pytest.raises(Conflict) as caught:
        await server.api.apply(deployment(server), manager="first", force=False)
    assert caught.value.managers == ("second",)


async def test_managers_share_an_object_where_they_agree(server: Server) -> None:
    await server.api.apply(lease(server, "one", mine="1"), manager="first")
    yours = lease(server, "one", yours="1")
    del yours["spec"]
    both = await server.api.apply(yours, manager="second", force=False)
    assert both["metadata"]["labels"] == {"mine": "1", "yours": "1"}
    entries = both["metadata"]["managedFields"]
    assert {(e["manager"], e["operation"]) for e in entries} == {
        ("first", "Apply"),
        ("second", "Apply"),
    }
    left = lease(server, "one")
    del left["metadata"]["labels"]
    rest = await server.api.apply(left, manager="first", force=False)
    assert rest["metadata"]["labels"] == {"yours": "1"}


async def test_a_dry_run_writes_nothing(server: Server) -> None:
    tried = await server.api.apply(lease(server, "one"), manager="one", dry_run=True)
    assert tried["spec"]["holderIdentity"] == "me"
    with pytest.raises(NotFound):
        await server.api.get(LEASES, server.namespace, "one")


async def test_the_selector_of_a_deployment_never_changes(server: Server) -> None:
    await server.api.apply(deployment(server), manager="one")
    other = deployment(server)
    other["spec"]["selector"] = {"matchLabels": {"app": "new"}}
    other["spec"]["template"]["metadata"]["labels"] = {"app": "new"}
    with pytest.raises(Refused, match="immutable"):
        await server.api.apply(other, manager="one")


# ---------------------------------------------------------------- status


async def test_status_is_written_by_its_own_path_alone(server: Server) -> None:
    made = await server.create_pod(pod(server, "one"))
    path = PODS.path(server.namespace, "one")
    condition = {"type": "federation.inference/test", "status": "True"}
    wanted = {**made, "status": {"conditions": [condition]}}
    wanted["metadata"] = {"name": "one", "namespace": server.namespace}
    changed = await server.api.request("PUT", path, body=wanted)
    assert not _has(changed, condition["type"])
    changed = await server.api.request("PUT", f"{path}/status", body={**changed, **wanted})
    assert _has(changed, condition["type"])


def _has(obj: Obj, condition: str) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(found["type"] == condition for found in conditions)


async def test_a_status_in_an_apply_is_dropped(server: Server) -> None:
    wanted = deployment(server)
    wanted["status"] = {"replicas": 7}
    await server.api.apply(wanted, manager="one")
    found = await server.api.get(DEPLOYMENTS, server.namespace, "triton")
    assert (found.get("status") or {}).get("replicas", 0) != 7


# ---------------------------------------------------------------- the other kinds that we write


@pytest.mark.parametrize(
    ("resource", "make"),
    [
        (SERVICES, service),
        (POD_DISRUPTION_BUDGETS, budget),
        (RESOURCE_CLAIMS, claim),
        (RAY_SERVICES, ray_service),
    ],
    ids=["service", "budget", "claim", "ray-service"],
)
async def test_apply_read_and_delete_each_kind(
    server: Server, resource: Resource, make: Any
) -> None:
    await server.needs(resource)
    created = await server.api.apply(make(server), manager="one")
    assert created["kind"] == resource.kind
    again = await server.api.apply(make(server), manager="one")
    assert again["metadata"]["uid"] == created["metadata"]["uid"]
    found = await server.api.list(Selection(resource=resource, namespace=server.namespace))
    assert "one" in [item["metadata"]["name"] for item in found.items]
    await server.api.delete(resource, server.namespace, "one")
