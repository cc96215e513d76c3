"""The bridge's calls of a real control plane."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from federation.bridge.control_plane import ControlPlane, document_of
from federation.bridge.policy.custom import CLUSTER, DEPLOYMENT
from federation.bridge.policy.decide import Create
from federation.cli.documents import look
from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    Invalid,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from federation.contract.resources import ClusterSpec, DeploymentSpec
from tests.federation.bridge.rig import Rig, rig

SPEC = DeploymentSpec(model="m")
FIRST = Create("1", "key-1", SPEC)


@pytest.fixture
async def its(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as found:
        yield found


@pytest.fixture
async def plane(its: Rig) -> AsyncIterator[ControlPlane]:
    settings = its.settings()
    made = ControlPlane(settings.endpoint, token_file=settings.token_file, ca_file=settings.ca_file)
    yield made
    await made.close()


async def test_a_creation_tells_whether_it_was_ours(its: Rig, plane: ControlPlane) -> None:
    await its.prepare("m")
    made = await plane.create(DEPLOYMENT, "d", FIRST)
    again = await plane.create(DEPLOYMENT, "d", FIRST)
    assert again["metadata"] == made["metadata"]
    with pytest.raises(Conflict):  # under another key it is somebody else's
        await plane.create(DEPLOYMENT, "d", Create("2", "key-2", SPEC))
    with pytest.raises(Invalid) as caught:
        await plane.create(DEPLOYMENT, "d", Create("1", "key-1", DeploymentSpec(model="x")))
    assert caught.value.reason == "idempotency-key-reused"
    await plane.remove(DEPLOYMENT, "d", made["metadata"]["resourceVersion"])
    with pytest.raises(NotFound) as gone:
        await plane.create(DEPLOYMENT, "d", FIRST)
    assert gone.value.reason == "unknown-deployment"
    assert its.deployments == {}


async def test_a_registration_tells_the_same(its: Rig, plane: ControlPlane) -> None:
    await its.prepare()
    first = Create("1", "key-1", ClusterSpec(region="eu"))
    made = await plane.create(CLUSTER, "c", first)
    assert await plane.create(CLUSTER, "c", first) == made
    assert "joinToken" not in made
    with pytest.raises(AlreadyExists):
        await plane.create(CLUSTER, "c", Create("2", "key-2", ClusterSpec(region="eu")))
    drained = await plane.schedule("c", "drain")
    assert look(drained, "status", "scheduling") == "draining"
    assert set(await plane.all_of(CLUSTER)) == {"c"}


async def test_only_what_was_read_is_changed_or_removed(its: Rig, plane: ControlPlane) -> None:
    await its.prepare("m")
    version = (await plane.create(DEPLOYMENT, "d", FIRST))["metadata"]["resourceVersion"]
    spec = DeploymentSpec(model="m", replicas=2)
    changed = await plane.change(DEPLOYMENT, "d", spec, version)
    assert changed["spec"]["replicas"] == 2
    with pytest.raises(Conflict) as stale:
        await plane.change(DEPLOYMENT, "d", SPEC, version)
    assert stale.value.reason == "stale-version"
    with pytest.raises(Conflict):
        await plane.remove(DEPLOYMENT, "d", version)
    await plane.remove(DEPLOYMENT, "d", changed["metadata"]["resourceVersion"])
    await plane.remove(DEPLOYMENT, "d", 1)  # once more does no harm
    assert await plane.get(DEPLOYMENT, "d") is None
    assert await plane.all_of(DEPLOYMENT) == {}


async def test_a_replaced_token_is_used_at_once(its: Rig) -> None:
    token, settings = its.folder / "token", its.settings()
    token.write_text("fed_admin_local_nonsense-nonsense-nonsense")
    plane = ControlPlane(settings.endpoint, token_file=str(token), ca_file=settings.ca_file)
    with pytest.raises(Unauthenticated):
        await plane.all_of(CLUSTER)
    token.write_text(Path(settings.token_file).read_text())
    assert await plane.all_of(CLUSTER) == {}
    token.unlink()
    with pytest.raises(Invalid, match="token file"):
        await plane.all_of(CLUSTER)
    await plane.close()


async def test_a_cancelled_call_ends_before_its_connection_is_closed(plane: ControlPlane) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(plane.all_of(CLUSTER))
        await asyncio.sleep(0)
        task.cancel()
    await plane.close()


def test_an_answer_without_a_name_is_none() -> None:
    with pytest.raises(Unavailable):
        document_of({})
    assert document_of({"metadata": {"name": "d"}})
