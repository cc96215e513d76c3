"""The engines on Kubernetes for the backend contract: a fake API server and what acts behind it."""

from contextlib import AsyncExitStack
from pathlib import Path

from edge_agent.backends.kube_backend import KubeBackend
from edge_agent.backends.kube_flavour import Flavour, Pace
from edge_agent.backends.kube_objects import KubeObjects
from edge_agent.backends.kuberay import RayFlavour
from edge_agent.backends.triton_kubernetes import TritonFlavour
from edge_agent.policy.kube.workloads import EngineShape
from federation.kube.access import KubeAccess
from federation.kube.api import KubeApi
from tests.fakes.kube_api import fake_kube_api
from tests.fakes.kube_nodes import fake_nodes

QUICK = Pace(poll_s=0.02, load_s=10.0, unload_s=10.0, ask_s=2.0)


class KubeBench:
    """A cluster with one agent's backend; `flavour` is how engines look."""

    def __init__(self, flavour: Flavour, image: str) -> None:
        self.flavour = flavour
        self.image = image
        self._stack = AsyncExitStack()
        self._backends: list[KubeBackend] = []

    async def start(self, folder: Path) -> None:
        self.folder = folder
        (folder / "volume" / "versions").mkdir(parents=True)
        self.api = await self._stack.enter_async_context(fake_kube_api())
        self.nodes = await self._stack.enter_async_context(fake_nodes(self.api, folder / "volume"))

    def backend(self, *, pace: Pace = QUICK, image: str = "") -> KubeBackend:
        """An agent's backend; another one is the agent after its restart."""
        shape = EngineShape(
            namespace="serving",
            cluster="eu",
            image=image or self.image,
            claim="models",
            path="versions",
        )
        access = KubeAccess(kubeconfig=str(self.api.kubeconfig(self.folder)))
        objects = KubeObjects(KubeApi(access), namespace="serving", cluster="eu")
        models = self.folder / "volume" / "versions"
        made = KubeBackend(objects, self.flavour, shape, models, reach=self.nodes.reach, pace=pace)
        self._backends.append(made)
        return made

    async def stop(self) -> None:
        for backend in self._backends:
            await backend.close()
        await self._stack.aclose()


def triton_bench() -> KubeBench:
    return KubeBench(TritonFlavour(), "example.com/tritonserver:25.09-py3")


def ray_bench() -> KubeBench:
    return KubeBench(RayFlavour(), "example.com/ray:2.60.0-py312-gpu")
