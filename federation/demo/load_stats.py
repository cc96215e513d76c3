"""What the load measured, counted.

Input: one Outcome for each request. Output: a Summary: how many, how late, which failed and why.
Latency counts from the moment at which the request was due, so that a slow system cannot hide
behind a generator that waits for it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One request. `error` is empty when a complete and correct answer came back."""

    due_s: float  # since the start of the load
    latency_s: float
    kind: str
    continent: str
    router: str = ""
    region: str = ""
    version: str = ""  # of the model, that answered
    attempts: int = 1  # of the router, at replicas
    sent: int = 1  # by the client, to routers
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A set of outcomes in numbers; latencies in milliseconds, of the requests that succeeded."""

    requests: int = 0
    failed: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    failed_over: int = 0  # the router needed more than one replica
    sent_again: int = 0  # the client needed more than one try
    errors: dict[str, int] = field(default_factory=dict)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the ordered values lie (nearest rank); 0 for none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summarize(outcomes: Iterable[Outcome]) -> Summary:
    """Count a set of outcomes."""
    seen = list(outcomes)
    good = sorted(outcome.latency_s * 1000 for outcome in seen if not outcome.error)
    errors = Counter(outcome.error for outcome in seen if outcome.error)
    return Summary(
        requests=len(seen),
        failed=errors.total(),
        p50_ms=percentile(good, 0.5),
        p99_ms=percentile(good, 0.99),
        max_ms=good[-1] if good else 0.0,
        failed_over=sum(outcome.attempts > 1 for outcome in seen),
        sent_again=sum(outcome.sent > 1 for outcome in seen),
        errors=dict(errors.most_common()),
    )


def grouped(outcomes: Iterable[Outcome], key: Callable[[Outcome], str]) -> dict[str, Summary]:
    """Return a summary for each value of `key`, in alphabetical order."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(key(outcome) or "none", []).append(outcome)
    return {name: summarize(groups[name]) for name in sorted(groups)}


def within(outcomes: Iterable[Outcome], start_s: float, end_s: float) -> list[Outcome]:
    """Return the outcomes of the requests that were due in [start_s, end_s)."""
    return [outcome for outcome in outcomes if start_s <= outcome.due_s < end_s]
