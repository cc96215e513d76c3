"""What several workers counted, added up. Plain functions.

Input: counts of versions and families of metrics, of several workers. Output: those of the router.
Counters and histograms are added sample by sample. So are gauges, but for those of which the
largest is told, or the least: something is healthy, or in use, if it is so at every worker.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from federation.contract.rollout import VersionCounts
from router.workers.frames import Family

LARGEST = frozenset({"fed_router_snapshot_age_seconds"})
LEAST = frozenset(
    {
        "fed_build_info",
        "fed_router_canary_percent",
        "fed_router_certificate_expiry_timestamp_seconds",
        "fed_router_endpoint_healthy",
        "fed_router_endpoint_rtt_seconds",
        "fed_router_snapshot_version",
    }
)
_Labels = tuple[tuple[str, str], ...]


def added(one: VersionCounts, other: VersionCounts) -> VersionCounts:
    """Return the sum of two counts of one version in one region."""
    found: dict[str, Any] = {}
    for field in fields(VersionCounts):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name not in ("model", "version", "region") and (a or b):
            found[field.name] = _plus(a, b)
    return replace(one, **found)


def _plus(a: Any, b: Any) -> Any:
    if isinstance(a, tuple):
        return tuple(x + y for x, y in zip(a, b, strict=True)) if a and b else a or b
    if isinstance(a, Mapping):
        return {key: a.get(key, 0) + b.get(key, 0) for key in {**a, **b}}
    return a + b


def merged(parts: Iterable[Iterable[Family]]) -> list[Family]:
    """Return the families of all, each once; in the order in which they first come."""
    heads: dict[str, tuple[str, str]] = {}
    sums: dict[str, dict[tuple[str, _Labels], float]] = {}
    for families in parts:
        for name, help_, kind, samples in families:
            heads.setdefault(name, (help_, kind))
            into = sums.setdefault(name, {})
            for sample, labels, value in samples:
                key = (sample, tuple(labels.items()))
                into[key] = _way(name, kind, sample)(into[key], value) if key in into else value
    return [
        (name, help_, kind, [(s, dict(labels), v) for (s, labels), v in sums[name].items()])
        for name, (help_, kind) in heads.items()
    ]


def _way(family: str, kind: str, sample: str) -> Callable[[float, float], float]:
    if sample.endswith("_created"):
        return min
    if kind == "gauge" and family in LEAST:
        return min
    return max if kind == "gauge" and family in LARGEST else _add


def _add(a: float, b: float) -> float:
    return a + b


def cumulative(families: Iterable[Family]) -> list[Family]:
    """Return those that outlive a worker: all but gauges."""
    return [family for family in families if family[2] != "gauge"]


def without(
    families: Iterable[Family], gone: Callable[[str, Mapping[str, str]], bool]
) -> list[Family]:
    """Return the families without the series that are gone: by family and labels."""
    return [
        (name, help_, kind, [sample for sample in samples if not gone(name, sample[1])])
        for name, help_, kind, samples in families
    ]
