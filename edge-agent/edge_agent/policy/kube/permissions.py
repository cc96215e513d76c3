"""What the agent must be allowed to do on Kubernetes, and how a lack of it is told.

Input: the answers to access reviews. Output: sentences that name what is missing, what is lost by
it, and the words of the rule that would grant it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from federation.kube.resources import (
    DEPLOYMENTS,
    DEVICE_CLASSES,
    NODES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    RAY_SERVICES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    SERVICES,
    Resource,
)

READ = ("list", "watch")
WRITE = ("get", "list", "create", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Need:
    """Verbs on one resource; `namespace` "" = in the whole cluster."""

    resource: Resource
    verbs: tuple[str, ...] = READ
    namespace: str = ""
    loss: str = ""  # what cannot be done without it


_NO_DRA = "devices of dynamic resource allocation cannot be counted"
INVENTORY_NEEDS = (
    Need(NODES, loss="no capacity can be seen"),
    Need(
        PODS, loss="what other workloads hold is not known: all that is allocatable counts as free"
    ),
    Need(RESOURCE_SLICES, loss=_NO_DRA),
    Need(RESOURCE_CLAIMS, loss=_NO_DRA),
    Need(DEVICE_CLASSES, loss=_NO_DRA),
)
_NO_MODEL = "no model can be served"


def triton_needs(namespace: str) -> tuple[Need, ...]:
    """Return what it takes to run Triton as workloads of a namespace."""
    return (
        Need(DEPLOYMENTS, WRITE, namespace, _NO_MODEL),
        Need(SERVICES, WRITE, namespace, _NO_MODEL),
        Need(POD_DISRUPTION_BUDGETS, WRITE, namespace, _NO_MODEL),
        _see_pods(namespace),
    )


def ray_needs(namespace: str) -> tuple[Need, ...]:
    """Return what it takes to run Ray clusters in a namespace; KubeRay makes the rest."""
    return (Need(RAY_SERVICES, WRITE, namespace, _NO_MODEL), _see_pods(namespace))


def _see_pods(namespace: str) -> Need:
    loss = "no replica can be warmed up, and why one does not start cannot be told"
    return Need(PODS, ("list",), namespace, loss)


Allowed = Mapping[tuple[Resource, str], bool]  # by resource and verb; what was not asked is absent


def missing(needs: Sequence[Need], allowed: Allowed) -> list[str]:
    """Return a sentence for each need that is not met."""
    sentences = []
    for need in needs:
        verbs = [verb for verb in need.verbs if allowed.get((need.resource, verb)) is False]
        if verbs:
            sentences.append(_sentence(need, verbs))
    return sentences


def _sentence(need: Need, verbs: Sequence[str]) -> str:
    where = f"in the namespace {need.namespace}" if need.namespace else "in the whole cluster"
    rule = "a Role" if need.namespace else "a ClusterRole"
    return (
        f"may not {' and '.join(verbs)} {need.resource} {where}: {need.loss} "
        f"(needs {rule} with apiGroups [{need.resource.group!r}], "
        f"resources [{need.resource.plural!r}], verbs {list(need.verbs)})"
    )
