"""What differs between kinds of engines on Kubernetes, and how often Kubernetes is asked.

Input: implemented by `triton_kubernetes` and `kuberay`. Output: called by `kube_backend`.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edge_agent.backends.base import EngineRoute, StagedVersion, Verb
from edge_agent.backends.engine_http import EngineHttp
from edge_agent.backends.kube_objects import Survey
from edge_agent.policy.kube.permissions import Need
from edge_agent.policy.kube.rollouts import Rollout
from edge_agent.policy.kube.workloads import EngineShape, Placing, Workload
from federation.contract.types import EngineKind, ModelProtocol
from federation.kube.resources import Resource

HTTP_PORT = 8000
Obj = dict[str, Any]
Key = tuple[str, int]
Reach = Callable[[str, int], str]  # from host and port to the base URL


def by_address(host: str, port: int) -> str:
    """Return the URL of a host in the cluster's own network."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often the API server is asked during a change, and how long for. Seconds."""

    poll_s: float = 1.0
    load_s: float = 580.0  # longer than a rollout may make no progress
    unload_s: float = 55.0  # longer than an engine may take to end
    ask_s: float = 0.7  # one question of the agent's poll
    rights_s: float = 60.0  # until rights that were missing are asked for again
    leftover_s: float = 1800.0  # what nobody wanted and never ran is removed after so long


class Flavour(Protocol):
    """One kind of engine as workloads. All methods but `write` and `warm_up` are pure."""

    kind: EngineKind
    resource: Resource  # of the object that tells how a version is
    others: tuple[Resource, ...]  # of the objects beside it
    each_pod: bool  # whether each pod that is ready is a replica

    def needs(self, namespace: str) -> tuple[Need, ...]:
        """Return the rights that it takes."""
        ...

    def write(self, folder: Path, staged: StagedVersion) -> None:
        """Put a version's files into its folder on the volume, unless they are there."""
        ...

    def remains(self, models: Path, name: str) -> Iterable[Path]:
        """Return what is on the volume of a version, by its engine-side name."""
        ...

    def manifests(
        self, staged: StagedVersion, workload: Workload, shape: EngineShape, placing: Placing
    ) -> Sequence[Obj]:
        """Return a version's objects in the order of their creation; the main one comes last."""
        ...

    def change(self, old: Obj, new: Obj, placing: Placing, survey: Survey | None) -> Obj | None:
        """Return how `old` becomes `new`, None if that takes a survey; raises BackendError."""
        ...

    def rollout(self, obj: Obj, pods: Sequence[Obj], name: str) -> Rollout:
        """Return how far a version has come."""
        ...

    def running(self, obj: Obj, name: str) -> int:
        """Return how many replicas answer; 0 = it is not loaded."""
        ...

    def wanted(self, obj: Obj) -> int:
        """Return how many replicas an object asks for."""
        ...

    def host(self, name: str, namespace: str) -> str:
        """Return the host of the Service that leads to the replicas."""
        ...

    def route(self, base: str, key: Key, verb: Verb, protocol: ModelProtocol) -> EngineRoute | None:
        """Return where a verb lives below a base URL."""
        ...

    def targets(self, pods: Sequence[Obj], service: str) -> Sequence[str]:
        """Return the hosts to warm up, so that each replica has answered once."""
        ...

    def warm_up(self, http: EngineHttp, staged: StagedVersion) -> Awaitable[None]:
        """Make one real inference."""
        ...
