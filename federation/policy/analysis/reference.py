"""What was usual lately, by model version and region: the yardstick of a rollout that begins.

Input: reports of routers on everything they serve. Output: References of about the last hour. It is
kept in memory only and forgets by halving: every half hour all counts are halved, so the newest
hour weighs most. What is halved stays a histogram, and sums of halves are halves of sums.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from federation.contract.rollout import VersionCounts
from federation.policy.analysis.counting import Counts
from federation.policy.analysis.histograms import add
from federation.policy.analysis.rules import Reference

HALF_S = 1800.0
ENOUGH = 2000  # requests; with fewer, counts are not forgotten

Key = tuple[str, int, str]  # model, version, region


@dataclass(slots=True)
class _Total:
    requests: int = 0
    errors: int = 0
    refused: int = 0
    latency: dict[int, int] = field(default_factory=dict)
    halved: float = 0.0

    def count(self, part: Counts, now: float) -> None:
        if now - self.halved >= HALF_S and self.requests >= 2 * ENOUGH:
            self.requests, self.errors = self.requests // 2, self.errors // 2
            self.refused //= 2
            self.latency = {i: half for i, c in self.latency.items() if (half := c // 2)}
            self.halved = now
        self.requests += sum(part.requests)
        self.errors += sum(part.errors)
        self.refused += sum(part.refused)
        add(self.latency, part.latency)


@dataclass(slots=True)
class _Router:
    boot: str
    sequence: int
    last: dict[Key, Counts] = field(default_factory=dict)


@dataclass(slots=True)
class References:
    """Rolling totals of everything that routers count. Times in seconds of any one clock."""

    totals: dict[Key, _Total] = field(default_factory=dict, repr=False)
    routers: dict[str, _Router] = field(default_factory=dict, repr=False)

    def take(
        self, run: tuple[str, str], sequence: int, counts: Iterable[VersionCounts], now: float
    ) -> None:
        """Take in a report of a router; `run` is its name and its boot id."""
        name, boot = run
        router = self.routers.get(name)
        if router is None or router.boot != boot:
            router = self.routers[name] = _Router(boot, -1)
        if sequence <= router.sequence:
            return
        router.sequence = sequence
        for one in counts:
            key, new = (one.model, one.version, one.region), Counts.of(one)
            old = router.last.get(key)
            part = new if old is None else new.minus(old)
            router.last[key] = new
            if part is not None:
                self.totals.setdefault(key, _Total(halved=now)).count(part, now)

    def of(self, model: str, version: int, region: str) -> Reference:
        """Return what was usual for a version in a region; zeros if it was never asked."""
        total = self.totals.get((model, version, region))
        if total is None:
            return Reference()
        return Reference(
            requests=total.requests,
            errors=total.errors,
            refused=total.refused,
            latency=dict(total.latency),
        )

    def forget(self, model: str) -> None:
        """Forget a model that is gone."""
        self.totals = {key: total for key, total in self.totals.items() if key[0] != model}
        for router in self.routers.values():
            router.last = {key: c for key, c in router.last.items() if key[0] != model}

    def drop_router(self, name: str) -> None:
        """Forget the last counters of a router that left for good."""
        self.routers.pop(name, None)
