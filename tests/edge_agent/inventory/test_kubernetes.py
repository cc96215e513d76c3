"""A cluster's capacity over a real connection: what it is, how old, and what is missing."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_agent.inventory import base, kubernetes
from edge_agent.inventory.kubernetes import KubernetesInventory
from edge_agent.policy.kube.view import KubeView
from federation.contract.capacity import Capacity
from federation.kube.access import KubeAccess
from federation.runtime.clock import SystemClock
from tests.fakes.kube_api import FakeKubeApi, fake_kube_api
from tests.fakes.kube_kinds import KINDS
from tests.federation.kube.following import GAP_S, SHORT, CountingApi, busiest, until

REVIEWS = "selfsubjectaccessreviews"
GPU = "nvidia.com/gpu"


def node(name: str, gpus: int) -> dict[str, Any]:
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "capacity": {GPU: str(gpus)},
        "allocatable": {GPU: str(gpus)},
    }
    return {"kind": "Node", "metadata": {"name": name}, "status": status}


def pod(name: str, gpus: int, on: str = "node-1") -> dict[str, Any]:
    resources = {"requests": {GPU: str(gpus)}, "limits": {GPU: str(gpus)}}
    spec = {"nodeName": on, "containers": [{"name": "c", "resources": resources}]}
    return {"kind": "Pod", "metadata": {"name": name}, "spec": spec, "status": {"phase": "Running"}}


class Rig:
    def __init__(self, fake: FakeKubeApi, folder: Path) -> None:
        self.fake = fake
        self.folder = folder
        self.api = CountingApi(KubeAccess(kubeconfig=str(folder / "kubeconfig")))
        self.inventory = KubernetesInventory(
            self.api, view=KubeView, clock=SystemClock(), dice=random.Random(1), patience=SHORT
        )

    async def free(self, expected: int) -> Capacity:
        """Wait until so many units are free."""
        async with asyncio.timeout(10):
            while True:
                capacity = await self.inventory.read()
                if capacity.free == expected and capacity.pools:
                    return capacity
                await asyncio.sleep(0.005)


@asynccontextmanager
async def prepared(folder: Path) -> AsyncIterator[Rig]:
    async with fake_kube_api() as fake:
        fake.kubeconfig(folder)
        fake.put(node("node-1", 8), pod("theirs", 3))
        yield Rig(fake, folder)


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    task = asyncio.create_task(rig.inventory.run())
    try:
        yield rig
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with prepared(tmp_path) as rig, running(rig):
        await rig.free(5)
        yield rig


async def test_before_the_first_answer_it_says_so(tmp_path: Path) -> None:
    async with prepared(tmp_path) as rig:
        capacity = await rig.inventory.read()
        assert (capacity.pools, capacity.reason) == ((), "the API server has not answered yet")


async def test_what_is_free_follows_the_pods(rig: Rig) -> None:
    capacity = await rig.free(5)
    assert (capacity.reason, capacity.observed_at is None) == ("", False)
    assert capacity.age_s <= 5.0
    rig.fake.put(pod("more", 4))
    assert (await rig.free(1)).pools[0].allocatable == 8
    rig.fake.remove("Pod", "theirs")
    await rig.free(4)
    rig.fake.put(node("node-2", 2))
    assert (await rig.free(6)).largest_block == 4
    assert "watching" in repr(rig.inventory)


async def test_nothing_is_shown_before_all_is_known(tmp_path: Path) -> None:
    async with prepared(tmp_path) as rig:
        rig.fake.faults.hang = lambda request: request.of("pods")
        async with running(rig):
            await until(lambda: rig.fake.requests("nodes", "watch"))
            capacity = await rig.inventory.read()
            assert capacity.pools == ()  # eight free GPUs would be a lie
            assert capacity.reason.startswith("not listed yet: pods")
    assert not rig.inventory.ready.is_set()


async def test_a_killed_server_and_its_return(rig: Rig) -> None:
    before = await rig.free(5)
    await rig.fake.stop()
    rig.fake.put(pod("more", 1))
    await asyncio.sleep(0.5)
    during = await rig.inventory.read()
    assert during.pools == before.pools
    assert during.age_s >= 0.5
    assert during.reason == "" or during.age_s >= kubernetes.TOLD_AFTER_S  # not yet worth words
    await rig.fake.start()
    assert (await rig.free(4)).age_s <= 5.0


async def test_a_longer_interruption_is_told_with_its_reason(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "TOLD_AFTER_S", 0.3)
    await rig.fake.stop()
    async with asyncio.timeout(10):
        told = "pods: the API server cannot be reached"
        while told not in (capacity := await rig.inventory.read()).reason:
            await asyncio.sleep(0.01)
    assert capacity.age_s >= 0.3
    await rig.fake.start()
    async with asyncio.timeout(10):
        while (await rig.inventory.read()).reason:
            await asyncio.sleep(0.01)


async def test_a_server_that_is_not_there_at_first_is_asked_with_patience(tmp_path: Path) -> None:
    async with prepared(tmp_path) as rig:
        await rig.fake.stop()
        async with running(rig):
            await asyncio.sleep(0.6)
            assert "cannot be reached" in (await rig.inventory.read()).reason
            asked = [at for at, _ in rig.api.asked]
            assert 2 <= len(asked) <= 13
            assert busiest(asked, GAP_S * 0.9) <= 1
            await rig.fake.start()
            assert (await rig.free(5)).reason == ""


async def test_questions_that_were_answered_are_not_asked_again(tmp_path: Path) -> None:
    async with prepared(tmp_path) as rig:
        number = itertools.count(1)
        rig.fake.faults.throttle(
            lambda request: request.of(REVIEWS) and next(number) in (4, 8), retry_after_s=None
        )
        async with running(rig):
            await rig.free(5)
        assert len(rig.fake.requests(REVIEWS)) == 12  # ten answers, two refusals between them


async def test_an_access_that_cannot_be_used_is_told_and_tried_again(tmp_path: Path) -> None:
    async with prepared(tmp_path) as rig:
        (tmp_path / "kubeconfig").unlink()
        async with running(rig):
            await until(rig.inventory.ready.is_set)
            assert "kubeconfig" in (await rig.inventory.read()).reason
            rig.fake.kubeconfig(tmp_path)
            await rig.free(5)


# ---------------------------------------------------------------- what may be read


async def test_pods_that_may_not_be_read(tmp_path: Path) -> None:
    async with prepared(tmp_path) as rig:
        rig.fake.faults.deny("pods")
        async with running(rig):
            capacity = await rig.free(8)
    assert "may not list and watch pods in the whole cluster" in capacity.reason
    assert "all that is allocatable counts as free" in capacity.reason
    assert rig.fake.requests("pods") == []  # it knew before it asked


async def test_what_is_granted_later_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "RECHECK_S", 0.3)
    async with prepared(tmp_path) as rig:
        rig.fake.faults.deny("pods")
        async with running(rig):
            await rig.free(8)
            rig.fake.faults.denied.clear()
            assert (await rig.free(5)).reason == ""


async def test_pods_that_are_denied_later(rig: Rig) -> None:
    rig.fake.faults.deny("pods")
    rig.fake.cut()
    assert "may not list and watch pods" in (await rig.free(8)).reason


async def test_nodes_that_may_not_be_read(tmp_path: Path) -> None:
    async with prepared(tmp_path) as rig:
        rig.fake.faults.deny("nodes", "watch")
        async with running(rig):
            await until(rig.inventory.ready.is_set)
            capacity = await rig.inventory.read()
    assert capacity.pools == ()
    assert "may not watch nodes" in capacity.reason
    assert "nothing of this cluster may be read" in capacity.reason
    assert rig.fake.requests("nodes") == []


async def test_a_cluster_without_dynamic_resource_allocation(tmp_path: Path) -> None:
    some = tuple(kind for kind in KINDS if kind.group != "resource.k8s.io")
    async with fake_kube_api(some) as fake:
        fake.kubeconfig(tmp_path)
        fake.put(node("node-1", 8))
        fake.faults.deny("resourceslices")  # as where no rule names what does not exist
        async with running(Rig(fake, tmp_path)) as rig:
            assert (await rig.free(8)).reason == ""


async def test_slices_without_claims_are_not_looked_at(tmp_path: Path) -> None:
    async with prepared(tmp_path) as rig:
        rig.fake.faults.deny("resourceclaims")
        async with running(rig):
            capacity = await rig.free(5)
    assert "may not list and watch resourceclaims.resource.k8s.io" in capacity.reason
    assert rig.fake.requests("resourceslices") == []


async def test_a_review_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says yes, and the list is refused all the same."""
    async with prepared(tmp_path) as rig:
        rig.fake.faults.deny("pods")

        async def yes(*args: object, **more: object) -> bool:
            return True

        monkeypatch.setattr(rig.api, "may", yes)
        async with running(rig):
            assert "may not list and watch pods" in (await rig.free(8)).reason
            assert len(rig.fake.requests("pods")) == 1


# ---------------------------------------------------------------- in the agent's loop


async def test_changes_are_shown_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SETTLE_S", 0.01)
    shown: list[int] = []
    async with prepared(tmp_path) as rig:
        task = asyncio.create_task(
            base.watch([rig.inventory], lambda capacity: shown.append(capacity.free))
        )
        try:
            await until(lambda: shown[-1:] == [5], seconds=5)
            rig.fake.put(pod("more", 4))
            await until(lambda: shown[-1:] == [1], seconds=5)  # the next look is in ten seconds
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_one_look_waits_for_the_first_picture(tmp_path: Path) -> None:
    async with prepared(tmp_path) as rig:
        assert (await base.look([rig.inventory])).free == 5
