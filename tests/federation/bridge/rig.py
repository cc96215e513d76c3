"""A bridge between a fake API server and a real control plane, all in this process.

Waits of the bridge are a twentieth of the product's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.app import ControlPlane
from federation.bridge.app import serve
from federation.bridge.policy.pacing import Patience
from federation.bridge.settings import Settings
from federation.kube.access import KubeAccess
from federation.kube.api import KubeApi
from federation.kube.resources import EDGE_CLUSTERS, MODEL_DEPLOYMENTS, Resource
from federation.runtime.backoff import Backoff
from tests.fakes.control_plane import LOCATION, Operator, operator, running
from tests.fakes.kube_api import FakeKubeApi, fake_kube_api
from tests.federation.kube.following import SHORT

Obj = dict[str, Any]
QUICK = Patience(
    gap_s=0.05,
    failed=Backoff(first_s=0.1, cap_s=0.5),
    poll_s=0.3,
    silent=Backoff(first_s=0.05, cap_s=0.3),
)
DEPLOYMENT, CLUSTER = MODEL_DEPLOYMENTS, EDGE_CLUSTERS


@dataclass
class Rig:
    """Both ends, and what a user does at either."""

    fake: FakeKubeApi
    api: KubeApi
    plane: ControlPlane
    fed: Operator
    folder: Path
    admin: str = ""

    def settings(self, **more: Any) -> Settings:
        given: Obj = {
            "endpoint": f"https://{self.plane.http_address}",
            "token_file": str(self.folder / "state" / "admin.token"),
            "ca_file": str(self.folder / "state" / "ca.pem"),
            "kubeconfig": str(self.folder / "kubeconfig"),
            "namespace": "default",
            "admin_listen": "127.0.0.1:0",
        }
        return Settings(**{**given, **more})

    @asynccontextmanager
    async def bridge(self, **more: Any) -> AsyncIterator[None]:
        """Run a bridge while this lasts."""
        stop, told = asyncio.Event(), asyncio.Event()

        def listening(address: str) -> None:
            self.admin = address
            told.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(
                serve(
                    self.settings(**more),
                    stop=stop,
                    patience=QUICK,
                    watch_patience=SHORT,
                    on_listening=listening,
                )
            )
            try:
                await told.wait()
                yield
            finally:
                stop.set()

    # ------------------------------------------------------------ a user of Kubernetes

    async def apply(self, resource: Resource, name: str, **spec: Any) -> Obj:
        metadata = {"name": name, "namespace": "default"}
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
        return await self.api.apply({**obj, "spec": spec}, manager="user")

    async def annotate(self, resource: Resource, name: str, **annotations: str) -> None:
        named = {f"federation.inference/{key}": value for key, value in annotations.items()}
        patch = {"metadata": {"annotations": named}}
        await self.api.merge(resource.path("default", name), patch, manager="user")

    async def delete(self, resource: Resource, name: str) -> None:
        await self.api.delete(resource, "default", name)

    def seen(self, resource: Resource, name: str) -> Obj | None:
        kind = self.fake.kind(resource.kind)
        found = self.fake.objects.select(kind, "default", lambda o: o["metadata"]["name"] == name)
        return found[0] if found else None

    def condition(self, resource: Resource, name: str, kind: str = "Synced") -> tuple[str, str]:
        """A condition's status and reason."""
        for each in ((self.seen(resource, name) or {}).get("status") or {}).get("conditions", ()):
            if each["type"] == kind:
                return each["status"], each["reason"]
        return "", ""

    async def told(self, resource: Resource, name: str, reason: str, kind: str = "Synced") -> None:
        """Wait until a condition has this reason."""
        await until(lambda: self.condition(resource, name, kind)[1] == reason, self.state)

    # ------------------------------------------------------------ a user of the control plane

    async def prepare(self, *models: str) -> None:
        """A region, and models with a version each."""
        await self.fed.put("Region", "eu", {"location": LOCATION})
        for model in models:
            answer = await self.fed.push(model)
            assert answer.status == 201, answer.body

    @property
    def deployments(self) -> Any:
        return self.plane.loop.state.deployments

    @property
    def clusters(self) -> Any:
        return self.plane.loop.state.clusters

    def state(self) -> str:
        """What to show when a wait was in vain."""
        kinds = (self.fake.kind(DEPLOYMENT.kind), self.fake.kind(CLUSTER.kind))
        objects = [o for kind in kinds for o in self.fake.objects.select(kind, "", lambda _: True)]
        return str([(o["metadata"]["name"], o.get("status")) for o in objects])


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Both ends, without a bridge yet."""
    async with (
        fake_kube_api() as fake,
        running(folder / "state") as plane,
        operator(plane) as fed,
    ):
        (folder / "state" / "ca.pem").write_text("".join(plane.keyring.rollover.bundle()))
        api = KubeApi(KubeAccess(kubeconfig=str(fake.kubeconfig(folder))))
        try:
            yield Rig(fake, api, plane, fed, folder)
        finally:
            await api.close()


async def until(
    condition: Callable[[], object], state: Callable[[], str] = str, *, seconds: float = 20.0
) -> None:
    """Wait for a condition, with a deadline."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(state()) from None
