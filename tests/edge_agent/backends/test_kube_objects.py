"""Kubernetes objects in the backends' words."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.backends.base import BackendError, EngineUnreachable
from edge_agent.backends.kube_objects import KubeObjects
from edge_agent.policy.kube.permissions import triton_needs
from edge_agent.policy.kube.triton_manifests import service
from federation.kube.access import KubeAccess
from federation.kube.api import KubeApi
from federation.kube.resources import DEPLOYMENTS, SERVICES
from tests.edge_agent.policy.kube.engines import SHAPE, WORKLOAD
from tests.fakes.kube_api import FakeKubeApi, fake_kube_api

NAME = WORKLOAD.name


@pytest.fixture
async def api() -> AsyncIterator[FakeKubeApi]:
    async with fake_kube_api() as fake:
        fake.put({"kind": "Namespace", "metadata": {"name": "serving"}, "status": {}})
        yield fake


@pytest.fixture
async def objects(api: FakeKubeApi, tmp_path: Path) -> AsyncIterator[KubeObjects]:
    door = KubeApi(KubeAccess(kubeconfig=str(api.kubeconfig(tmp_path))))
    found = KubeObjects(door, namespace="serving", cluster="eu")
    yield found
    await found.close()


def pod(name: str, **labels: str) -> dict[str, Any]:
    about = {"name": name, "namespace": "serving", "labels": labels}
    return {"kind": "Pod", "metadata": about, "spec": {"containers": [{"name": "x"}]}}


async def test_put_find_list_delete(objects: KubeObjects) -> None:
    assert await objects.find(SERVICES, NAME) is None
    await objects.put(service(WORKLOAD, SHAPE))
    assert await objects.find(SERVICES, NAME) is not None
    assert [each["metadata"]["name"] for each in await objects.ours(SERVICES)] == [NAME]
    assert await objects.ours(DEPLOYMENTS) == ()
    for _ in range(2):
        await objects.delete(SERVICES, NAME)
    assert await objects.ours(SERVICES) == ()


async def test_objects_of_others_are_neither_listed_nor_touched(
    api: FakeKubeApi, objects: KubeObjects
) -> None:
    foreign = service(WORKLOAD, SHAPE)
    foreign["metadata"]["labels"]["federation.inference/cluster"] = "us"
    api.put(foreign)
    assert await objects.ours(SERVICES) == ()
    for attempt in (objects.put(service(WORKLOAD, SHAPE)), objects.delete(SERVICES, NAME)):
        with pytest.raises(BackendError, match=f"there is a Service {NAME} .* left alone"):
            await attempt


async def test_pods_of_one_workload(api: FakeKubeApi, objects: KubeObjects) -> None:
    ours = {
        "federation.inference/managed-by": "edge-agent",
        "federation.inference/cluster": "eu",
    }
    api.put(pod("a", **ours, **{"federation.inference/workload": "m-x"}))
    api.put(pod("b", **ours, **{"federation.inference/workload": "m-y"}), pod("c"))
    assert [each["metadata"]["name"] for each in await objects.pods("m-x")] == ["a"]


async def test_what_passes_is_told_apart_from_what_does_not(
    api: FakeKubeApi, objects: KubeObjects
) -> None:
    await objects.reach()
    api.faults.throttle(times=1)
    with pytest.raises(EngineUnreachable, match="Too many requests"):
        await objects.reach()
    api.faults.deny("services", "list")
    with pytest.raises(BackendError, match="Kubernetes refuses") as told:
        await objects.ours(SERVICES)
    assert not isinstance(told.value, EngineUnreachable)
    await api.stop()
    with pytest.raises(EngineUnreachable, match="cannot be reached"):
        await objects.ours(SERVICES)


async def test_missing_rights(api: FakeKubeApi, objects: KubeObjects) -> None:
    assert await objects.missing(triton_needs("serving")) == []
    api.faults.deny("pods", "list")
    (sentence,) = await objects.missing(triton_needs("serving"))
    assert sentence.startswith("may not list pods in the namespace serving: no replica can be")


async def test_a_survey_without_the_right_to_see_pods_says_so(
    api: FakeKubeApi, objects: KubeObjects
) -> None:
    have = {"nvidia.com/gpu": "2"}
    status = {
        "capacity": have,
        "allocatable": have,
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    api.put({"kind": "Node", "metadata": {"name": "n", "labels": {}}, "status": status})
    busy = pod("busy")
    busy["spec"] = {
        "nodeName": "n",
        "containers": [{"name": "x", "resources": {"requests": {"nvidia.com/gpu": "1"}}}],
    }
    api.put(busy)
    survey = await objects.survey()
    assert (survey.exact, [pool.free for pool in survey.pools]) == (True, [1])
    api.faults.deny("pods", "list")
    survey = await objects.survey()
    assert (survey.exact, [pool.free for pool in survey.pools]) == (False, [2])
