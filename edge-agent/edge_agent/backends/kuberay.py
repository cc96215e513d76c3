"""Ray Serve on Kubernetes: a RayService per model version, carried out by the KubeRay operator.

Input: verified packages. Output: what `KubeBackend` needs to know of Ray. Code and model travel as
a zip file in the version's folder on the volume, which head and workers of its cluster see.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from edge_agent.backends import ray_inference as inference
from edge_agent.backends.base import BackendError, EngineRoute, StagedVersion, Verb
from edge_agent.backends.engine_http import EngineHttp
from edge_agent.backends.kube_flavour import Key, Obj
from edge_agent.backends.kube_objects import Survey
from edge_agent.backends.ray_applications import make_application
from edge_agent.backends.ray_serve import archive_name, write_archive
from edge_agent.policy.kube.fields import at, items
from edge_agent.policy.kube.fitting import room
from edge_agent.policy.kube.permissions import Need, ray_needs
from edge_agent.policy.kube.ray_manifests import (
    needs_second_cluster,
    ray_service,
    serve_host,
    with_surge,
)
from edge_agent.policy.kube.rollouts import Rollout, ray_rollout, ray_runs
from edge_agent.policy.kube.workloads import (
    MODELS_DIR,
    EngineShape,
    Placing,
    Workload,
    told_most,
)
from federation.contract.types import EngineKind, ModelProtocol
from federation.kube.resources import RAY_SERVICES, Resource

_WORKERS = "availableWorkerReplicas"
_CPUS = 1.0  # all that a worker offers: so each replica has one for itself


class RayFlavour:
    """A Ray cluster for each version."""

    kind = EngineKind.RAY_SERVE
    resource = RAY_SERVICES
    others: tuple[Resource, ...] = ()
    each_pod = False

    def needs(self, namespace: str) -> tuple[Need, ...]:
        """Return the rights that it takes."""
        return ray_needs(namespace)

    def write(self, folder: Path, staged: StagedVersion) -> None:
        """Write the version's zip file."""
        if not (folder / archive_name(staged)).exists():
            write_archive(folder, staged)

    def remains(self, models: Path, name: str) -> Iterable[Path]:
        """Return the zip files of a version, of whatever content."""
        return list(models.glob(f"*/{name}-*.zip"))

    def manifests(
        self, staged: StagedVersion, workload: Workload, shape: EngineShape, placing: Placing
    ) -> Sequence[Obj]:
        """Return the RayService."""
        # A worker's pod has the memory: Ray need not count it. Each replica has its worker.
        resources = replace(staged.resources, memory_mib=0)
        package = replace(staged.package, resources=resources)
        sized = replace(staged, needs=resources, package=package)
        uri = f"file://{MODELS_DIR}/{archive_name(staged)}"
        application = make_application(sized, uri, _CPUS)
        return (ray_service(workload, shape, placing, application),)

    def change(self, old: Obj, new: Obj, placing: Placing, survey: Survey | None) -> Obj | None:
        """Return the new RayService; with a second cluster only where that has room."""
        if not needs_second_cluster(old, new):
            return new
        if not placing.resource:
            return with_surge(new)
        if survey is None:
            return None
        wanted = max(told_most(new), self.wanted(new))
        replicas, left = room(placing, survey.pools, survey.nodes)
        if survey.exact and replicas >= wanted:
            return with_surge(new)
        name, more = new["metadata"]["name"], wanted * placing.units
        known = f"{left} are free" if survey.exact else "how many are free cannot be seen"
        raise BackendError(
            f"to change {name} a second Ray cluster is needed beside it, with {more} more "
            f"{placing.resource}, and {known}. It goes on as it was"
        )

    def rollout(self, obj: Obj, pods: Sequence[Obj], name: str) -> Rollout:
        """Return how far the RayService has come."""
        return ray_rollout(obj, name, pods)

    def running(self, obj: Obj, name: str) -> int:
        """Return how many replicas there are, if the application runs: each has its worker."""
        if not ray_runs(obj, name):
            return 0
        there = at(obj, "status", "activeServiceStatus", "rayClusterStatus", _WORKERS)
        return there if isinstance(there, int) and there > 0 else self.wanted(obj)

    def wanted(self, obj: Obj) -> int:
        """Return how many workers the RayService begins with."""
        groups = items(obj, "spec", "rayClusterConfig", "workerGroupSpecs")
        return sum(int(at(group, "replicas") or 0) for group in groups)

    def host(self, name: str, namespace: str) -> str:
        """Return the host of the Service that KubeRay makes."""
        return serve_host(name, namespace)

    def route(self, base: str, key: Key, verb: Verb, protocol: ModelProtocol) -> EngineRoute | None:
        """Return where the verb lives, as at any Ray Serve."""
        return inference.route(base, key, verb, protocol)

    def targets(self, pods: Sequence[Obj], service: str) -> Sequence[str]:
        """Return the Service: every proxy leads to every replica."""
        return [service]

    async def warm_up(self, http: EngineHttp, staged: StagedVersion) -> None:
        """Make one real inference."""
        await inference.warm_up(http, staged)
