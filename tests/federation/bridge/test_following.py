"""The custom resources are followed, and it is said why not."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from federation.bridge.following import Following
from federation.bridge.policy.custom import BRIDGED
from federation.kube.access import KubeAccess
from federation.runtime.clock import SystemClock
from tests.fakes.kube_api import FakeKubeApi, fake_kube_api
from tests.fakes.kube_kinds import KINDS, Kind
from tests.federation.bridge.rig import until
from tests.federation.kube.following import SHORT, CountingApi

QUICK = replace(SHORT, refused_s=0.2)


class Names:
    def __init__(self) -> None:
        self.known: set[str] = set()

    def replace(self, kind: str, objects: Iterable[dict[str, Any]]) -> None:
        self.known = {obj["metadata"]["name"] for obj in objects}

    def apply(self, kind: str, change: str, obj: dict[str, Any]) -> None:
        (self.known.discard if change == "DELETED" else self.known.add)(obj["metadata"]["name"])


@asynccontextmanager
async def following(
    folder: Path, kinds: tuple[Kind, ...] = KINDS
) -> AsyncIterator[tuple[Following, FakeKubeApi, Names]]:
    async with fake_kube_api(kinds) as fake:
        api = CountingApi(KubeAccess(kubeconfig=str(fake.kubeconfig(folder))))
        view = Names()
        made = Following(
            api, "default", view, clock=SystemClock(), dice=random.Random(1), patience=QUICK
        )
        task = asyncio.create_task(made.run())
        try:
            yield made, fake, view
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await api.close()


def put(fake: FakeKubeApi, name: str, namespace: str = "default") -> None:
    metadata = {"name": name, "namespace": namespace}
    fake.put({"kind": "ModelDeployment", "metadata": metadata, "spec": {"model": "m"}})


async def test_one_namespace_is_followed(tmp_path: Path) -> None:
    async with following(tmp_path) as (its, fake, view):
        assert its.reasons()
        assert its.age_s() is None
        changes: list[int] = []
        its.on_change = lambda: changes.append(1)
        put(fake, "one")
        put(fake, "other", "elsewhere")
        await until(lambda: view.known == {"one"})
        await until(lambda: not its.reasons())
        age_s = its.age_s()
        assert age_s is not None
        assert age_s < 10.0
        assert changes


async def test_definitions_that_are_not_installed_are_asked_for(tmp_path: Path) -> None:
    others = tuple(kind for kind in KINDS if kind.group != "federation.inference")
    async with following(tmp_path, others) as (its, fake, view):
        await until(lambda: len(its.reasons()) == len(BRIDGED))
        await until(lambda: "install the custom resource definitions" in its.reasons()[0])
        fake.kinds = KINDS
        put(fake, "one")
        await until(lambda: view.known == {"one"})
        await until(lambda: not its.reasons())


async def test_what_is_denied_is_told_and_asked_for_again(tmp_path: Path) -> None:
    async with following(tmp_path) as (its, fake, view):
        put(fake, "one")
        await until(lambda: view.known == {"one"})
        fake.faults.deny("modeldeployments")
        fake.cut()
        await until(lambda: any("forbidden" in reason for reason in its.reasons()))
        fake.faults.denied.clear()
        put(fake, "two")
        await until(lambda: view.known == {"one", "two"})
        await until(lambda: not its.reasons())
