"""Versions as workloads: what fails is told, what runs goes on, nothing is left behind.

That they load, answer and go is in tests/contract/test_backend.py.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.backends.base import BackendError, EngineUnreachable, StagedVersion
from edge_agent.backends.kube_backend import KubeBackend
from edge_agent.policy.kube.workloads import object_name
from federation.contract.capacity import Resources
from tests.contract.backends import ECHO, stage
from tests.contract.kube_backends import QUICK, KubeBench, triton_bench
from tests.edge_agent.agent_rig import until

Obj = dict[str, Any]
ECHO_NAME = object_name("echo", 1)
NODE: Obj = {
    "kind": "Node",
    "metadata": {"name": "n", "labels": {}},
    "status": {
        "capacity": {"nvidia.com/gpu": "4"},
        "allocatable": {"nvidia.com/gpu": "4"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}
PROGRESS_ENDED = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[KubeBench]:
    found = triton_bench()
    (tmp_path / "cluster").mkdir()
    await found.start(tmp_path / "cluster")
    yield found
    await found.stop()


@pytest.fixture
def backend(bench: KubeBench) -> KubeBackend:
    return bench.backend()


@pytest.fixture
def echo(tmp_path: Path) -> StagedVersion:
    return stage(tmp_path / "packages", "echo", 1, {"model.py": ECHO})


def objects(bench: KubeBench) -> set[tuple[str, str]]:
    kinds = ("Deployment", "Service", "PodDisruptionBudget", "Pod")
    return {(kind, obj["metadata"]["name"]) for kind in kinds for obj in bench.nodes.all(kind)}


async def gone(bench: KubeBench) -> None:
    await until(lambda: not objects(bench) and not files(bench))


async def give_up(bench: KubeBench, backend: KubeBackend, staged: StagedVersion) -> None:
    """Begin a load and end it in the middle, as when the version is withdrawn or the agent dies."""
    task = asyncio.get_running_loop().create_task(backend.load(staged))
    await until(lambda: bench.nodes.rollouts and bench.nodes.all("Pod"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def files(bench: KubeBench) -> list[Path]:
    return list((bench.folder / "volume" / "versions").iterdir())


def deployment(bench: KubeBench) -> Obj:
    (found,) = bench.nodes.all("Deployment")
    return found


async def test_a_restarted_agent_finds_what_runs_and_leaves_it_alone(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    await backend.load(echo)
    before = deployment(bench)["metadata"]["resourceVersion"]
    after = bench.backend()
    (loaded,) = await after.loaded()
    assert (loaded.model, loaded.version, loaded.digest) == ("echo", 1, echo.digest)
    await after.load(echo)
    await after.warm_up(echo)
    assert deployment(bench)["metadata"]["resourceVersion"] == before
    assert bench.nodes.rollouts == [ECHO_NAME]


async def test_replicas_are_changed_in_place_and_each_is_warmed_up(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    await backend.load(echo)
    more = replace(echo, replicas=3)
    await backend.load(more)
    (loaded,) = await backend.loaded()
    assert (loaded.replicas, deployment(bench)["spec"]["replicas"]) == (3, 3)
    await backend.warm_up(more)
    assert bench.nodes.engines[ECHO_NAME].requests["echo--v1"] == 3


async def test_a_pod_that_took_anothers_place_counts_when_it_is_warm(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    two = replace(echo, replicas=2)
    await backend.load(two)
    await backend.warm_up(two)
    asked = bench.nodes.engines[ECHO_NAME].requests
    assert ((await backend.loaded())[0].replicas, asked["echo--v1"]) == (2, 2)
    await backend.loaded()
    assert asked["echo--v1"] == 2  # who is warm is left alone
    gone, _ = bench.nodes.all("Pod")
    bench.api.remove("Pod", gone["metadata"]["name"], "serving")
    bench.nodes._make_pod(ECHO_NAME, deployment(bench)["spec"]["template"], "", good=True)
    assert [v.replicas for v in await backend.loaded()] == [1]
    async with asyncio.timeout(10):
        while [v.replicas for v in await backend.loaded()] != [2]:
            await asyncio.sleep(0.02)
    assert asked["echo--v1"] == 3


async def test_a_new_pod_that_does_not_answer_does_not_count(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    await backend.load(echo)
    await backend.warm_up(echo)
    (gone,) = bench.nodes.all("Pod")
    bench.api.remove("Pod", gone["metadata"]["name"], "serving")
    bench.nodes._make_pod(ECHO_NAME, deployment(bench)["spec"]["template"], "", good=True)
    await bench.nodes.engines[ECHO_NAME].stop()
    for _ in range(3):
        assert await backend.loaded() == ()
        await asyncio.sleep(0.02)
    assert "1 being warmed" in repr(backend._warmth)


async def test_other_content_of_a_version_takes_its_place(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion, tmp_path: Path
) -> None:
    await backend.load(echo)
    other = stage(tmp_path / "other", "echo", 1, {"model.py": ECHO + "\n# better\n"})
    await backend.load(other)
    (loaded,) = await backend.loaded()
    assert loaded.digest == other.digest
    assert len(files(bench)) == 1


FAILURES = {
    "ImagePullBackOff": 'the image cannot be pulled: Back-off pulling image "example.com/triton:1"',
    "deadline": "it made no progress for long",
    "quota": "exceeded quota: gpus",
}


@pytest.mark.parametrize("trouble", FAILURES)
async def test_what_fails_is_told_and_leaves_nothing_behind(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion, trouble: str
) -> None:
    bench.nodes.troubles["echo"] = trouble
    with pytest.raises(BackendError, match=FAILURES[trouble]):
        await backend.load(echo)
    await gone(bench)


async def test_no_free_node_is_waited_for_and_told_in_the_schedulers_words(
    bench: KubeBench, echo: StagedVersion
) -> None:
    bench.nodes.troubles["echo"] = "Unschedulable"
    backend = bench.backend(pace=replace(QUICK, load_s=1.0))
    with pytest.raises(BackendError, match=r"after 1 s.*3 Insufficient nvidia\.com/gpu"):
        await backend.load(echo)
    await gone(bench)


async def test_what_ran_before_stays_if_a_change_fails(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    await backend.load(echo)
    bench.nodes.troubles["echo"] = "ImagePullBackOff"
    with pytest.raises(BackendError, match="cannot be pulled"):
        await backend.load(replace(echo, replicas=2))
    assert ("Deployment", ECHO_NAME) in objects(bench)
    assert len(files(bench)) == 1


async def test_what_is_left_of_an_agents_earlier_life_and_never_ran_is_removed(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    bench.nodes.troubles["echo"] = "stuck"
    await give_up(bench, backend, echo)
    status = {**deployment(bench)["status"], "conditions": [PROGRESS_ENDED]}
    bench.api.put({**deployment(bench), "status": status})
    with pytest.raises(BackendError, match="made no progress"):
        await bench.backend().load(echo)
    await gone(bench)


async def test_without_the_api_server_what_runs_goes_on(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    await backend.load(echo)
    known = await backend.loaded()
    await bench.api.stop()
    assert await backend.loaded() == known
    status = await backend.status()
    assert status.ready
    assert "cannot be reached" in status.reason
    await backend.warm_up(echo)
    await bench.nodes.stop()
    with pytest.raises(EngineUnreachable, match="cannot be reached"):
        await backend.loaded()
    assert not (await backend.status()).ready


async def test_a_frozen_api_server_does_not_hold_up_the_poll(
    bench: KubeBench, echo: StagedVersion
) -> None:
    backend = bench.backend(pace=replace(QUICK, ask_s=0.5))
    await backend.load(echo)
    known = await backend.loaded()
    bench.api.faults.hang = lambda _: True
    async with asyncio.timeout(10):
        assert (await backend.status()).reason == (
            "Kubernetes: the API server does not answer in time."
        )
        assert await backend.loaded() == known


async def test_missing_rights_are_named(bench: KubeBench, backend: KubeBackend) -> None:
    bench.api.faults.deny("deployments", "patch", "create")
    status = await backend.status()
    assert not status.ready
    assert "may not create and patch deployments.apps in the namespace serving" in status.reason
    asked = len(bench.api.requests("selfsubjectaccessreviews", "create"))
    await backend.status()
    assert len(bench.api.requests("selfsubjectaccessreviews", "create")) == asked  # not each second


async def test_a_right_that_is_taken_away_is_named_and_what_runs_goes_on(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    await backend.load(echo)
    known = await backend.loaded()
    assert (await backend.status()).reason == ""
    bench.api.faults.deny("deployments", "list")
    assert await backend.loaded() == known
    status = await backend.status()
    assert status.ready
    assert "may not list deployments.apps" in status.reason


async def test_rights_that_come_are_noticed(bench: KubeBench) -> None:
    bench.api.faults.deny("pods", "list")
    backend = bench.backend(pace=replace(QUICK, rights_s=0.0))
    assert "may not list pods" in (await backend.status()).reason
    bench.api.faults.denied.clear()
    status = await backend.status()
    assert (status.ready, status.reason) == (True, "")


async def test_what_others_made_is_left_alone(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    theirs = {"kind": "Service", "metadata": {"name": ECHO_NAME, "namespace": "serving"}}
    bench.api.put({**theirs, "spec": {"ports": [{"port": 1}]}})
    with pytest.raises(BackendError, match="this agent did not make"):
        await backend.load(echo)
    (service,) = bench.nodes.all("Service")
    assert service["spec"] == {"ports": [{"port": 1}]}
    assert objects(bench) == {("Service", ECHO_NAME)}


async def test_fields_that_others_changed_are_taken_back_and_that_is_said(
    bench: KubeBench,
    backend: KubeBackend,
    echo: StagedVersion,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await backend.load(echo)
    kind = bench.api.kind("Deployment")
    old = bench.api.objects.get(kind, "serving", ECHO_NAME)
    bench.api.objects.update(
        kind, old, {**old, "spec": {**old["spec"], "replicas": 5}}, "kubectl-scale"
    )
    with caplog.at_level(logging.WARNING):
        await backend.load(replace(echo, replicas=2))
    assert deployment(bench)["spec"]["replicas"] == 2
    assert f"kubectl-scale had changed the Deployment {ECHO_NAME}" in caplog.text


async def test_what_the_api_server_refuses_is_quoted(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    bench.api.faults.deny("services", "patch")
    with pytest.raises(BackendError, match=r"Kubernetes refuses: services.*cannot patch resource"):
        await backend.load(echo)
    await gone(bench)


async def test_a_load_that_was_given_up_is_cleared_later(
    bench: KubeBench, echo: StagedVersion
) -> None:
    bench.nodes.troubles["echo"] = "stuck"
    backend = bench.backend(pace=replace(QUICK, leftover_s=0.2))
    await give_up(bench, backend, echo)
    async with asyncio.timeout(10):
        while objects(bench):
            assert await backend.loaded() == ()
            await asyncio.sleep(0.02)


async def test_replicas_ask_for_what_they_were_given_room_for(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    bench.api.put(NODE)
    await backend.load(replace(echo, needs=Resources(gpus=2)))
    (container,) = deployment(bench)["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"


async def test_needs_that_no_node_meets_are_told(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    bench.api.put(NODE)
    with pytest.raises(BackendError, match=r"needs 8 GPUs on one node, the most .* is 4"):
        await backend.load(replace(echo, needs=Resources(gpus=8)))
    await gone(bench)


async def test_a_volume_that_cannot_be_written_is_told(
    bench: KubeBench, backend: KubeBackend, echo: StagedVersion
) -> None:
    models = bench.folder / "volume" / "versions"
    models.rmdir()
    models.write_text("not a folder")
    with pytest.raises(BackendError, match="cannot write to the models' volume"):
        await backend.load(echo)


async def test_pods_that_do_not_go_are_told(bench: KubeBench, echo: StagedVersion) -> None:
    backend = bench.backend(pace=replace(QUICK, unload_s=0.2))
    await backend.load(echo)
    (pod,) = bench.nodes.all("Pod")
    stays = {**pod, "metadata": {**pod["metadata"], "name": "stays", "namespace": "serving"}}
    bench.nodes._remove_pods = lambda name: None  # type: ignore[method-assign]
    bench.api.put(stays)
    with pytest.raises(BackendError, match=r"still there after 0\.2 s"):
        await backend.unload("echo", 1)
