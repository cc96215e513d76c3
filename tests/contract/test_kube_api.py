"""What every API server does that the agent relies on: the fake and real ones.

A real one takes part where FEDERATION_TEST_KUBECONFIG names it: see tests/contract/kube_servers.py.
"""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from federation.kube.api import APPLY, Change, Selection
from federation.kube.errors import Conflict, Forbidden, KubeError, NotFound, Refused
from federation.kube.resources import (
    DEPLOYMENTS,
    DEVICE_CLASSES,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    RESOURCE_SLICES,
    SERVICES,
    Resource,
)
from tests.contract.kube_manifests import deployment, lease, pod
from tests.contract.kube_servers import SERVERS, Server, kube_server

Obj = dict[str, Any]
NOBODY = {"Impersonate-User": "federation-test-nobody"}


@pytest.fixture(params=[pytest.param(name, marks=SERVERS[name][1]) for name in SERVERS])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    async with kube_server(request.param, tmp_path) as found:
        yield found


def leases(server: Server, labels: str = "") -> Selection:
    return Selection(resource=LEASES, namespace=server.namespace, labels=labels)


def names(items: tuple[Obj, ...]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


async def heard(server: Server, which: Selection, version: str, count: int) -> list[Change]:
    """The first changes after a version, without bookmarks."""
    found: list[Change] = []
    async with (
        asyncio.timeout(20),
        aclosing(server.api.watch(which, version, timeout_s=15)) as changes,
    ):
        async for change in changes:
            if change.type != "BOOKMARK":
                found.append(change)
            if len(found) == count:
                break
    return found


# ---------------------------------------------------------------- single objects


async def test_create_get_replace_delete(server: Server) -> None:
    api = server.api
    made = await api.create(lease(server, "one"))
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"]
    got = await api.get(LEASES, server.namespace, "one")
    assert got["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    got["spec"]["holderIdentity"] = "you"
    changed = await api.replace(got)
    assert changed["spec"]["holderIdentity"] == "you"
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    await api.delete(LEASES, server.namespace, "one")
    with pytest.raises(NotFound):
        await api.get(LEASES, server.namespace, "one")
    await api.delete(LEASES, server.namespace, "one")  # once more does no harm


async def test_a_second_creation_is_a_conflict(server: Server) -> None:
    await server.api.create(lease(server, "one"))
    with pytest.raises(Conflict, match="already exists"):
        await server.api.create(lease(server, "one"))


async def test_who_read_an_older_version_may_not_replace(server: Server) -> None:
    made = await server.api.create(lease(server, "one"))
    mine, yours = copy.deepcopy(made), copy.deepcopy(made)
    yours["spec"]["holderIdentity"] = "you"
    await server.api.replace(yours)
    mine["spec"]["holderIdentity"] = "me again"
    with pytest.raises(Conflict, match="modified"):
        await server.api.replace(mine)
    now = await server.api.get(LEASES, server.namespace, "one")
    assert now["spec"]["holderIdentity"] == "you"


async def test_what_is_not_there(server: Server) -> None:
    with pytest.raises(NotFound):
        await server.api.get(PODS, server.namespace, "none")
    elsewhere = lease(server, "one")
    elsewhere["metadata"]["namespace"] = "federation-test-no-such-namespace"
    with pytest.raises(NotFound):
        await server.api.create(elsewhere)
    unknown = Resource("federation.example", "v1", "things", "Thing")
    with pytest.raises(NotFound):
        await server.api.list(Selection(resource=unknown))
    assert not await server.api.serves(unknown)


async def test_what_makes_no_sense_is_refused(server: Server) -> None:
    with pytest.raises(Refused) as caught:
        await server.api.create(lease(server, "Not_A_Name"))
    assert caught.value.status == 422
    assert "metadata.name" in caught.value.message
    broken = deployment(server)
    broken["spec"]["template"]["metadata"]["labels"] = {"app": "another"}
    with pytest.raises(Refused, match="selector"):
        await server.api.apply(broken, manager="one")


# ---------------------------------------------------------------- lists


async def test_lists_have_versions_and_pages(server: Server) -> None:
    for number in range(5):
        await server.api.create(lease(server, f"lease-{number}"))
    pages = [page async for page in server.api.pages(leases(server), limit=2)]
    assert [len(page.items) for page in pages] == [2, 2, 1]
    assert len({page.version for page in pages}) == 1
    whole = await server.api.list(leases(server))
    assert names(whole.items) == [f"lease-{number}" for number in range(5)]
    assert int(whole.version) >= max(int(i["metadata"]["resourceVersion"]) for i in whole.items)
    empty = await server.api.list(Selection(resource=SERVICES, namespace=server.namespace))
    assert (empty.items, bool(empty.version)) == ((), True)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("tier=gold", ["a"]),
        ("tier!=gold", ["b", "c"]),
        ("tier in (gold,tin)", ["a", "b"]),
        ("tier notin (gold,tin)", ["c"]),
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier,tier!=tin", ["a"]),
    ],
)
async def test_label_selectors(server: Server, selector: str, expected: list[str]) -> None:
    await server.api.create(lease(server, "a", tier="gold"))
    await server.api.create(lease(server, "b", tier="tin"))
    await server.api.create(lease(server, "c"))
    found = await server.api.list(leases(server, labels=selector))
    assert names(found.items) == expected


async def test_field_selectors(server: Server) -> None:
    await server.create_pod(pod(server, "one"))
    await server.create_pod(pod(server, "two"))
    mine = {"resource": PODS, "namespace": server.namespace}
    not_ended = "status.phase!=Succeeded,status.phase!=Failed"
    for fields, expected in (
        ("metadata.name=two", ["two"]),
        (not_ended, ["one", "two"]),
        ("status.phase=Failed", []),
        ("spec.nodeName=federation-no-such-node", []),
    ):
        found = await server.api.list(Selection(**mine, fields=fields))  # type: ignore[arg-type]
        assert names(found.items) == expected
    with pytest.raises(Refused, match="field label not supported"):
        await server.api.list(Selection(**mine, fields="spec.color=red"))  # type: ignore[arg-type]


@pytest.mark.parametrize("resource", [NODES, NAMESPACES, PODS, RESOURCE_SLICES, DEVICE_CLASSES])
async def test_kinds_of_the_whole_cluster_can_be_listed(server: Server, resource: Resource) -> None:
    await server.needs(resource)
    assert (await server.api.list(Selection(resource=resource))).version


# ---------------------------------------------------------------- watches


async def test_a_watch_tells_what_happened_after_its_version(server: Server) -> None:
    await server.api.create(lease(server, "before"))
    start = await server.api.list(leases(server))
    made = await server.api.create(lease(server, "one"))
    made["spec"]["holderIdentity"] = "you"
    await server.api.replace(made)
    await server.api.delete(LEASES, server.namespace, "one")
    told = await heard(server, leases(server), start.version, 3)
    assert [change.type for change in told] == ["ADDED", "MODIFIED", "DELETED"]
    assert {change.obj["metadata"]["name"] for change in told} == {"one"}
    assert told[1].obj["spec"]["holderIdentity"] == "you"
    versions = [int(change.version) for change in told]
    assert versions == sorted(versions)
    assert versions[0] > int(start.version)
    again = await heard(server, leases(server), told[0].version, 2)  # goes on after any of them
    assert [change.type for change in again] == ["MODIFIED", "DELETED"]


async def test_a_watch_waits_for_what_is_to_come(server: Server) -> None:
    start = await server.api.list(leases(server))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(heard(server, leases(server), start.version, 1))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await server.api.create(lease(server, "one"))
    assert [change.type for change in waiting.result()] == ["ADDED"]


async def test_leaving_the_selection_is_a_deletion(server: Server) -> None:
    gold = leases(server, labels="tier=gold")
    start = await server.api.list(gold)
    made = await server.api.create(lease(server, "one", tier="gold"))
    await server.api.create(lease(server, "other", tier="tin"))
    made["metadata"]["labels"] = {"tier": "tin"}
    made = await server.api.replace(made)
    made["metadata"]["labels"] = {"tier": "gold"}
    await server.api.replace(made)
    told = await heard(server, gold, start.version, 3)
    assert [change.type for change in told] == ["ADDED", "DELETED", "ADDED"]
    assert {change.obj["metadata"]["name"] for change in told} == {"one"}


async def test_a_watch_ends_in_time_and_its_bookmarks_are_versions(server: Server) -> None:
    start = await server.api.list(leases(server))
    loop = asyncio.get_running_loop()
    begun, bookmarks = loop.time(), []
    async for change in server.api.watch(leases(server), start.version, timeout_s=2):
        assert change.type == "BOOKMARK"
        bookmarks.append(int(change.version))
    assert 1.0 <= loop.time() - begun <= 10.0
    assert all(version >= int(start.version) for version in bookmarks)


# ---------------------------------------------------------------- who may


async def test_the_tests_user_may_and_nobody_may_not(server: Server) -> None:
    assert await server.api.may("list", PODS)
    assert await server.api.may("patch", DEPLOYMENTS, namespace=server.namespace)
    with pytest.raises(Forbidden, match="federation-test-nobody") as caught:
        await server.api.request("GET", PODS.path(server.namespace), headers=NOBODY)
    assert 'cannot list resource "pods"' in caught.value.message
    with pytest.raises(Forbidden):
        await server.api.request("GET", NODES.path(), query={"watch": "true"}, headers=NOBODY)
    with pytest.raises(KubeError) as refused:
        await server.api.request(
            "PATCH",
            LEASES.path(server.namespace, "one"),
            query={"fieldManager": "one"},
            body=lease(server, "one"),
            content_type=APPLY,
            headers=NOBODY,
        )
    assert refused.value.status == 403
