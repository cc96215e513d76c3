"""What the agent must be allowed to do on Kubernetes, and how a lack of it is told.

Input: the answers to access reviews. Output: sentences that name what is missing, what is lost by
it, and the words of the rule that would grant it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_agent.policy.kube.resources import (
    DEVICE_CLASSES,
    NODES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    Resource,
)

READ = ("list", "watch")


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
