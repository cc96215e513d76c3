"""RayServices: failures in Ray's words, and never twice the GPUs without room for them."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.backends.base import BackendError, StagedVersion
from federation.contract.capacity import Resources
from tests.contract.backends import ECHO, stage
from tests.contract.kube_backends import KubeBench, ray_bench
from tests.edge_agent.backends.test_kube_backend import NODE

Obj = dict[str, Any]
NEWER = "example.com/ray:2.61.0"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[KubeBench]:
    found = ray_bench()
    (tmp_path / "cluster").mkdir()
    await found.start(tmp_path / "cluster")
    found.api.put(NODE)
    yield found
    await found.stop()


@pytest.fixture
def echo(tmp_path: Path) -> StagedVersion:
    staged = stage(tmp_path / "packages", "echo", 1, {"model.py": ECHO})
    return replace(staged, needs=Resources(gpus=2))


def service(bench: KubeBench) -> Obj:
    (found,) = bench.nodes.all("RayService")
    return found


def serve_deployment(bench: KubeBench) -> Obj:
    (application,) = json.loads(service(bench)["spec"]["serveConfigV2"])["applications"]
    (deployment,) = application["deployments"]
    return dict(deployment)


def other_workload(bench: KubeBench, gpus: int) -> None:
    limits = {"nvidia.com/gpu": str(gpus)}
    container = {"name": "main", "resources": {"requests": limits, "limits": limits}}
    meta = {"name": f"other-{gpus}", "labels": {}}
    spec = {"nodeName": "n", "containers": [container]}
    bench.api.put({"kind": "Pod", "metadata": meta, "spec": spec, "status": {"phase": "Running"}})


async def test_deploy_failed_is_told_in_rays_words_and_leaves_nothing(
    bench: KubeBench, echo: StagedVersion
) -> None:
    bench.nodes.troubles["echo"] = "Traceback (most recent call last):\nValueError: bad weights"
    with pytest.raises(BackendError, match=r"^ValueError: bad weights$"):
        await bench.backend().load(echo)
    assert bench.nodes.all("RayService") == []
    assert list((bench.folder / "volume" / "versions").iterdir()) == []


async def test_an_image_that_cannot_be_pulled_is_told(
    bench: KubeBench, echo: StagedVersion
) -> None:
    bench.nodes.troubles["echo"] = "ImagePullBackOff"
    with pytest.raises(BackendError, match="cannot be pulled"):
        await bench.backend().load(echo)


async def test_more_replicas_are_a_change_in_place(bench: KubeBench, echo: StagedVersion) -> None:
    backend = bench.backend()
    await backend.load(echo)
    await backend.load(replace(echo, replicas=2))
    assert service(bench)["spec"]["upgradeStrategy"] == {"type": "None"}
    (loaded,) = await backend.loaded()
    assert loaded.replicas == 2


async def test_rays_own_autoscaler_gets_the_limits_of_the_deployment(
    bench: KubeBench, echo: StagedVersion
) -> None:
    backend = bench.backend()
    await backend.load(replace(echo, replicas=2, max_replicas=4))
    deployment = serve_deployment(bench)
    assert deployment["autoscaling_config"] == {"min_replicas": 2, "max_replicas": 4}
    assert "num_replicas" not in deployment
    assert deployment["ray_actor_options"] == {"num_cpus": 1.0, "num_gpus": 2}
    (loaded,) = await backend.loaded()
    assert loaded.replicas == 2
    there = bench.nodes.all("RayService")[0]
    there["status"]["activeServiceStatus"]["rayClusterStatus"]["availableWorkerReplicas"] = 3
    bench.api.put(there)
    (loaded,) = await backend.loaded()
    assert loaded.replicas == 3  # as its autoscaler chose


async def test_other_limits_are_a_change_in_place(bench: KubeBench, echo: StagedVersion) -> None:
    backend = bench.backend()
    await backend.load(replace(echo, replicas=1, max_replicas=4))
    rollouts = len(bench.nodes.rollouts)
    await backend.load(replace(echo, replicas=1, max_replicas=4))
    assert len(bench.nodes.rollouts) == rollouts
    await backend.load(replace(echo, replicas=1, max_replicas=3))
    assert serve_deployment(bench)["autoscaling_config"] == {"min_replicas": 1, "max_replicas": 3}
    await backend.load(replace(echo, replicas=2))
    assert serve_deployment(bench)["num_replicas"] == 2
    assert service(bench)["spec"]["upgradeStrategy"] == {"type": "None"}


async def test_a_second_cluster_needs_room_for_all_that_the_autoscaler_may_start(
    bench: KubeBench, echo: StagedVersion
) -> None:
    await bench.backend().load(echo)
    with pytest.raises(BackendError, match=r"with 18 more nvidia\.com/gpu"):
        await bench.backend(image=NEWER).load(replace(echo, replicas=1, max_replicas=9))


async def test_a_second_cluster_is_made_where_it_has_room(
    bench: KubeBench, echo: StagedVersion
) -> None:
    await bench.backend().load(echo)
    await bench.backend(image=NEWER).load(replace(echo, replicas=2))
    spec = service(bench)["spec"]
    assert spec["upgradeStrategy"] == {"type": "NewCluster"}
    assert spec["rayClusterConfig"]["rayVersion"] == "2.61.0"


async def test_a_second_cluster_is_refused_where_it_has_none(
    bench: KubeBench, echo: StagedVersion
) -> None:
    await bench.backend().load(echo)
    other_workload(bench, 1)
    before = service(bench)["spec"]
    words = r"second Ray cluster.* with 4 more nvidia\.com/gpu, and 3 are free. It goes on"
    with pytest.raises(BackendError, match=words):
        await bench.backend(image=NEWER).load(replace(echo, replicas=2))
    assert service(bench)["spec"] == before


async def test_a_second_cluster_is_refused_where_its_room_cannot_be_seen(
    bench: KubeBench, echo: StagedVersion
) -> None:
    await bench.backend().load(echo)
    bench.api.faults.denied.append(lambda asked: asked.of("pods", "list") and not asked.namespace)
    with pytest.raises(BackendError, match="how many are free cannot be seen"):
        await bench.backend(image=NEWER).load(replace(echo, replicas=2))


async def test_without_gpus_a_second_cluster_needs_no_room(
    bench: KubeBench, tmp_path: Path
) -> None:
    staged = stage(tmp_path / "cpu", "echo", 1, {"model.py": ECHO})
    await bench.backend().load(staged)
    await bench.backend(image=NEWER).load(replace(staged, replicas=2))
    assert service(bench)["spec"]["upgradeStrategy"] == {"type": "NewCluster"}


async def test_an_image_alone_moves_nothing_that_runs(
    bench: KubeBench, echo: StagedVersion
) -> None:
    await bench.backend().load(echo)
    before = service(bench)["metadata"]["resourceVersion"]
    await bench.backend(image=NEWER).load(echo)
    assert service(bench)["metadata"]["resourceVersion"] == before
