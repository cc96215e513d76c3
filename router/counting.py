"""How each version does, counted at the router: what analyses of rollouts are made from.

Input: attempts as they end, by HTTP and gRPC alike; the routing table. Output: cumulative counts by
model, version and region of the cluster, for the control plane and for /metrics. They begin with
this object, whose `instance` tells so: the control plane takes differences.

This is on the way of every request: an attempt of a model without a canary costs a few additions.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, log2
from uuid import uuid4

from federation.contract.codec_rollout import MAX_COUNTED
from federation.contract.rollout import USER_BUCKETS, VersionCounts
from router.policy.shortlist import Option
from router.policy.split import Split
from router.policy.table import Resolved, RoutingTable

SCALE = 16.0  # indexes of the histogram for each doubling
LEFT = 499  # the client went away before an answer
_LEAST_MS = 1e-6
_NEVER = float("inf")

Key = tuple[str, int, str]


class Counts:
    """What was seen of one version of a model in one region."""

    __slots__ = (
        "compared",
        "disagreed",
        "diverted",
        "errors",
        "latency",
        "refused",
        "requests",
        "slow",
        "slow_ms",
        "undrawn",
    )

    def __init__(self) -> None:
        self.requests = [0] * USER_BUCKETS
        self.errors = [0] * USER_BUCKETS
        self.refused = [0] * USER_BUCKETS
        self.slow = [0] * USER_BUCKETS
        self.undrawn = [0] * USER_BUCKETS
        self.diverted = [0] * USER_BUCKETS
        self.latency: dict[int, int] = {}
        self.slow_ms = _NEVER  # from here on an answer is slow
        self.compared = 0
        self.disagreed = 0

    def __repr__(self) -> str:
        return f"Counts({sum(self.requests)} requests, {sum(self.errors)} errors)"


class Counting:
    """Counts the attempts of one router."""

    def __init__(self) -> None:
        self.instance = uuid4().hex
        self.counts: dict[Key, Counts] = {}
        self._by_version: dict[tuple[str, int], list[Counts]] = {}  # the same, of all regions
        self._sequence = 0
        self._turn = 0
        self.table: RoutingTable | None = None

    def __repr__(self) -> str:
        return f"Counting({len(self.counts)} versions by region, {self._sequence} reports)"

    def attempted(self, resolved: Resolved, chosen: Option, status: int, took_s: float) -> None:
        """An attempt is over, with a status as if it had been answered (`LEFT` = its client did not
        wait), after `took_s`: to the first byte, or to the end of a small answer."""
        counts = self.counts.get((resolved.route.name, chosen.version, chosen.region))
        if counts is None:
            counts = self._begin(resolved.route.name, chosen)
        bucket = 0
        if resolved.split is not None:
            bucket = resolved.split.bucket
            _note_draw(counts, resolved.split, chosen)
        elif resolved.route.canary is not None:  # it names its version: whose it is counts little
            bucket = self._turn = (self._turn + 1) % USER_BUCKETS
            counts.undrawn[bucket] += 1
        counts.requests[bucket] += 1
        took_ms = took_s * 1000.0
        if status < 400:
            index = ceil(SCALE * log2(took_ms if took_ms > _LEAST_MS else _LEAST_MS)) - 1
            counts.latency[index] = counts.latency.get(index, 0) + 1
        elif status in (429, 503):
            counts.refused[bucket] += 1
            return
        elif status >= 500:
            counts.errors[bucket] += 1
            if status == 504 and counts.slow_ms < _NEVER:
                counts.slow[bucket] += 1
            return
        elif status != LEFT:
            return
        if took_ms > counts.slow_ms:
            counts.slow[bucket] += 1

    def compared(self, model: str, version: int, region: str, *, agreed: bool) -> None:
        """A canary's answer was compared with the stable version's."""
        if (counts := self.counts.get((model, version, region))) is not None:
            counts.compared += 1
            counts.disagreed += not agreed

    def retain(self, table: RoutingTable) -> None:
        """Forget models that left the table, and take note of what is slow from now on."""
        self.table = table
        self.counts = {key: counts for key, counts in self.counts.items() if key[0] in table.models}
        self._by_version.clear()
        for key, counts in self.counts.items():
            counts.slow_ms = _slow_ms(table, *key)
            self._by_version.setdefault(key[:2], []).append(counts)

    def histograms(self, model: str, version: int) -> Iterator[Mapping[int, int]]:
        """Yield how long answers of a version took so far, a region after the other: counts by
        index of a bucket, which ends at `upper_ms`."""
        return (counts.latency for counts in self._by_version.get((model, version), ()))

    def report(self) -> tuple[int, Iterator[tuple[VersionCounts, ...]]]:
        """Return the number of this report, which rises, and all counts: one model after the other,
        all of its versions at the same moment."""
        self._sequence += 1
        return self._sequence, self._models()

    def _models(self) -> Iterator[tuple[VersionCounts, ...]]:
        by_model: dict[str, list[Key]] = {}
        for key in self.counts:
            by_model.setdefault(key[0], []).append(key)
        left = MAX_COUNTED  # those between two versions come first
        for model in sorted(by_model, key=self._has_canary, reverse=True):
            left -= len(by_model[model])
            if left < 0:
                return
            yield tuple(_told(k, self.counts[k]) for k in by_model[model] if k in self.counts)

    def _has_canary(self, model: str) -> bool:
        route = self.table.models.get(model) if self.table is not None else None
        return route is not None and route.canary is not None

    def _begin(self, model: str, chosen: Option) -> Counts:
        counts = self.counts[model, chosen.version, chosen.region] = Counts()
        self._by_version.setdefault((model, chosen.version), []).append(counts)
        if self.table is not None:
            counts.slow_ms = _slow_ms(self.table, model, chosen.version, chosen.region)
        return counts


def upper_ms(index: int) -> float:
    """Return where a bucket of the histograms ends."""
    return float(2.0 ** ((index + 1) / SCALE))


def _note_draw(counts: Counts, split: Split, chosen: Option) -> None:
    """Tell attempts that were not drawn, and those that the canary should have had, from others."""
    is_canary = chosen.version == split.canary.version
    if split.failed or (is_canary and not split.takes(chosen.region)):
        counts.undrawn[split.bucket] += 1
    elif not is_canary and split.takes(chosen.region):
        counts.diverted[split.bucket] += 1


def _slow_ms(table: RoutingTable, model: str, version: int, region: str) -> float:
    """Return from when on an answer of a version is slow in a region; there need be no bound."""
    route = table.models.get(model)
    if route is None or route.canary is None:
        return _NEVER
    bounds = route.canary.slow.get(region)
    if bounds is None:
        return _NEVER
    if version == route.canary.version:
        return bounds.canary_ms
    return bounds.stable_ms if version == route.default_version else _NEVER


def _told(key: Key, counts: Counts) -> VersionCounts:
    return VersionCounts(
        model=key[0],
        version=key[1],
        region=key[2],
        requests=_column(counts.requests),
        errors=_column(counts.errors),
        refused=_column(counts.refused),
        slow=_column(counts.slow),
        latency=dict(counts.latency),
        compared=counts.compared,
        disagreed=counts.disagreed,
        undrawn=_column(counts.undrawn),
        diverted=_column(counts.diverted),
    )


def _column(counts: Sequence[int]) -> tuple[int, ...]:
    return tuple(counts) if any(counts) else ()
