"""What a pod holds or waits for: extended resources and claims.

Input: a pod as plain JSON. Output: a PodUse, or None if it concerns no devices. Requests follow
https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
and its counterpart for sidecars.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.policy.kube.fields import Json, at, items, mapping, text, whole

ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodUse:
    """A pod that is bound to a node, or waits because none takes it."""

    node: str  # "" = it waits
    requests: tuple[tuple[str, int], ...] = ()  # extended resources by name
    claims: tuple[str, ...] = ()  # ResourceClaims in its namespace
    ours: bool = False


def pod_use(pod: Json, ours: Mapping[str, str]) -> PodUse | None:
    """Return what a pod holds or waits for; `ours` are the labels of this federation's pods.

    A bound pod holds its devices until it is gone, also while it terminates; one that ended holds
    none.
    """
    status = mapping(pod, "status")
    if status.get("phase") in ENDED:
        return None
    spec = mapping(pod, "spec")
    node = text(spec, "nodeName")
    if not node and (at(pod, "metadata", "deletionTimestamp") or not _unschedulable(status)):
        return None
    claims = _claims(spec, status)
    requests = effective_requests(spec)
    if requests and node:
        for resource in _served_by_claim(status):
            requests.pop(resource, None)
    if not requests and not claims:
        return None
    labels = mapping(pod, "metadata", "labels")
    return PodUse(
        node=node,
        requests=tuple(sorted(requests.items())),
        claims=claims,
        ours=all(labels.get(key) == value for key, value in ours.items()),
    )


def effective_requests(spec: Json) -> dict[str, int]:
    """Return what the scheduler reserves of each extended resource.

    Containers run beside each other and beside the sidecars (init containers with restartPolicy
    Always); ordinary init containers run one by one, beside the sidecars started before them.
    """
    together: dict[str, int] = {}
    for container in items(spec, "containers"):
        _add(together, container)
    if not (first := items(spec, "initContainers")):
        return {name: n for name, n in together.items() if n}
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in first:
        if container.get("restartPolicy") == "Always":
            _add(sidecars, container)
            _add(together, container)
            continue
        alone: dict[str, int] = {}
        _add(alone, container)
        for name, n in alone.items():
            peak[name] = max(peak.get(name, 0), n + sidecars.get(name, 0))
    for name, n in peak.items():
        together[name] = max(together.get(name, 0), n)
    return {name: n for name, n in together.items() if n}


def _add(sums: dict[str, int], container: Json) -> None:
    """Add the extended resources of a container. The API server makes requests equal limits."""
    for name, asked in mapping(container, "resources", "requests").items():
        if "/" in name:
            sums[name] = sums.get(name, 0) + whole(asked)


def _unschedulable(status: Json) -> bool:
    return any(
        condition.get("type") == "PodScheduled"
        and condition.get("status") == "False"
        and condition.get("reason") == "Unschedulable"
        for condition in items(status, "conditions")
    )


def _claims(spec: Json, status: Json) -> tuple[str, ...]:
    """Return the names of its claims: given, made from a template, or made by the scheduler."""
    names = [text(claim, "resourceClaimName") for claim in items(spec, "resourceClaims")]
    if names:
        names += [
            text(claim, "resourceClaimName") for claim in items(status, "resourceClaimStatuses")
        ]
    names.append(text(status, "extendedResourceClaimStatus", "resourceClaimName"))
    return tuple(sorted({name for name in names if name}))


def _served_by_claim(status: Json) -> set[str]:
    """Return the resources that it got as devices of a claim, not out of a node's allocatable."""
    mappings = items(status, "extendedResourceClaimStatus", "requestMappings")
    return {text(one, "resourceName") for one in mappings}
