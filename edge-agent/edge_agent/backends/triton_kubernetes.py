"""Triton on Kubernetes: a Deployment, a Service and a PodDisruptionBudget per model version.

Input: verified packages. Output: what `KubeBackend` needs to know of Triton. The version's folder
on the volume is the repository of its Triton, which holds nothing else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from edge_agent.backends import triton_inference as inference
from edge_agent.backends import triton_repository as files
from edge_agent.backends.base import EngineRoute, StagedVersion, Verb, engine_name
from edge_agent.backends.engine_http import EngineHttp
from edge_agent.backends.kube_flavour import Key, Obj
from edge_agent.backends.kube_objects import Survey
from edge_agent.policy.kube.fields import at, items, text
from edge_agent.policy.kube.permissions import Need, triton_needs
from edge_agent.policy.kube.rollouts import Rollout, available, deployment_rollout
from edge_agent.policy.kube.triton_manifests import triton_manifests
from edge_agent.policy.kube.workloads import EngineShape, Placing, Workload
from federation.contract.types import EngineKind, ModelProtocol
from federation.kube.resources import (
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    SERVICES,
    Resource,
)


class TritonFlavour:
    """A Triton for each version."""

    kind = EngineKind.TRITON
    resource = DEPLOYMENTS
    others: tuple[Resource, ...] = (SERVICES, POD_DISRUPTION_BUDGETS)
    each_pod = True

    def needs(self, namespace: str) -> tuple[Need, ...]:
        """Return the rights that it takes."""
        return triton_needs(namespace)

    def write(self, folder: Path, staged: StagedVersion) -> None:
        """Write the version's model folder; each replica is a Triton with one instance."""
        if (folder / engine_name(staged.model, staged.version)).exists():
            return  # written whole or not at all
        folder.mkdir(parents=True, exist_ok=True)
        files.sweep(folder)
        files.write_model(folder, replace(staged, replicas=1))

    def remains(self, models: Path, name: str) -> Iterable[Path]:
        """Return the model folders of a version, of whatever content."""
        return list(models.glob(f"*/{name}"))

    def manifests(
        self, staged: StagedVersion, workload: Workload, shape: EngineShape, placing: Placing
    ) -> Sequence[Obj]:
        """Return all objects, the Deployment last."""
        return triton_manifests(workload, shape, placing)

    def change(self, old: Obj, new: Obj, placing: Placing, survey: Survey | None) -> Obj | None:
        """Return the new Deployment: its rollout takes no GPU beyond those it has."""
        return new

    def rollout(self, obj: Obj, pods: Sequence[Obj], name: str) -> Rollout:
        """Return how far the Deployment has come."""
        return deployment_rollout(obj, pods)

    def running(self, obj: Obj, name: str) -> int:
        """Return how many replicas are available."""
        return available(obj)

    def wanted(self, obj: Obj) -> int:
        """Return how many replicas the Deployment asks for."""
        return int(at(obj, "spec", "replicas") or 0)

    def host(self, name: str, namespace: str) -> str:
        """Return the Service's host."""
        return f"{name}.{namespace}.svc"

    def route(self, base: str, key: Key, verb: Verb, protocol: ModelProtocol) -> EngineRoute | None:
        """Return where the verb lives, as at any Triton."""
        return inference.route(base, key, verb, protocol)

    def targets(self, pods: Sequence[Obj], service: str) -> Sequence[str]:
        """Return the addresses of the ready pods: each is a replica."""
        return [
            address for pod in pods if _ready(pod) and (address := text(pod, "status", "podIP"))
        ]

    async def warm_up(self, http: EngineHttp, staged: StagedVersion) -> None:
        """Make one real inference."""
        await inference.warm_up(http, staged)


def _ready(pod: Obj) -> bool:
    conditions = items(pod, "status", "conditions")
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
