"""Taints and tolerations as the scheduler reads them, and the short form that settings take.

Input: taints of nodes, the agent's setting. Output: the taints that keep our workloads away.
Semantics: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge_agent.policy.kube.fields import Json, text
from federation.contract.errors import Invalid

EQUAL, EXISTS = "Equal", "Exists"
HARD = ("NoSchedule", "NoExecute")  # PreferNoSchedule only moves a node back in the order
EFFECTS = (*HARD, "PreferNoSchedule")


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """What a workload bears. No key with Exists: every taint; no effect: all effects."""

    key: str = ""
    operator: str = EQUAL
    value: str = ""
    effect: str = ""

    def bears(self, taint: Json) -> bool:
        """Return whether this taint does not keep the workload away."""
        if self.effect and self.effect != text(taint, "effect"):
            return False
        if self.key and self.key != text(taint, "key"):
            return False
        if self.operator == EXISTS:
            return True
        same = bool(self.key) and self.value == text(taint, "value")
        return self.operator == EQUAL and same


def toleration(written: str) -> Toleration:
    """Return what `key`, `key:effect`, `key=value` or `key=value:effect` means; `*` is every key.

    Raises Invalid.
    """
    rest, colon, effect = written.strip().partition(":")
    key, equals, value = rest.partition("=")
    if not key or (colon and effect not in EFFECTS) or (key == "*" and equals):
        raise Invalid(
            f"{written!r} is no toleration.",
            hint="Write key, key:NoSchedule, key=value or key=value:NoExecute; * is every key.",
        )
    name = "" if key == "*" else key
    operator = EQUAL if equals else EXISTS
    return Toleration(key=name, operator=operator, value=value, effect=effect)


# What workloads with GPUs bear: vendors' installers taint their nodes so, and the admission plugin
# ExtendedResourceToleration adds a toleration named like the resource.
GPU_TOLERATIONS = (
    toleration("nvidia.com/gpu"),
    toleration("amd.com/gpu"),
    toleration("gpu.intel.com/i915"),
    toleration("gpu.intel.com/xe"),
)


def keeping_away(taints: Iterable[Json], tolerations: Sequence[Toleration]) -> list[Json]:
    """Return the taints that keep a workload with these tolerations away."""
    return [
        taint
        for taint in taints
        if text(taint, "effect") in HARD and not any(t.bears(taint) for t in tolerations)
    ]


def written(taint: Json) -> str:
    """Return a taint as kubectl shows it: "dedicated=training:NoSchedule"."""
    value = text(taint, "value")
    return f"{text(taint, 'key')}{'=' if value else ''}{value}:{text(taint, 'effect')}"
