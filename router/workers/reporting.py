"""What a worker tells its keeper unasked: totals, what sleeps and is asked for, how clusters are.

Input: the state of a worker. Output: a Report each time, with the counts that changed since the
last one; a short one at once when somebody asks for a model that sleeps; Figures.
"""

import asyncio

from federation.contract.rollout import VersionCounts
from router.metrics.requests import Metrics
from router.policy.breaker import BreakerState
from router.state import RouterState
from router.workers.frames import Figures, Order, Report, Seen
from router.workers.link import Link

_AT_ONCE = 512  # clusters that are looked at before requests have a turn again


class Reporter:
    """Reports of one worker, one after the other."""

    def __init__(self, state: RouterState, metrics: Metrics, link: Link[Order]) -> None:
        self._state = state
        self._metrics = metrics
        self._link = link
        self._told: dict[tuple[str, int, str], VersionCounts] = {}
        self._seen: dict[str, Seen] = {}
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Reporter({self._state.requests_total} requests)"

    async def report(self) -> None:
        """Tell how things are. Requests go on meanwhile."""
        async with self._turn:
            counts = await self._counts()
            self._seen = await self._look()
            self._send(counts)

    def measure(self) -> None:
        """Tell all metrics."""
        families = [
            (
                family.name,
                family.documentation,
                family.type,
                [(s.name, dict(s.labels), s.value) for s in family.samples],
            )
            for family in self._metrics.registry.collect()
        ]
        self._link.send(Figures(families))

    def urge(self) -> None:
        """Tell at once what is asked for and sleeps."""
        self._send([])

    def _send(self, counts: list[VersionCounts]) -> None:
        state = self._state
        report = Report(
            requests=state.requests_total,
            errors=state.errors_total,
            demand=dict(state.demand()),
            seen=self._seen,
            counts=counts,
            tenants=self._metrics.by_tenant(),
        )
        self._link.send(report)

    async def _counts(self) -> list[VersionCounts]:
        """Return the counts that changed."""
        changed: list[VersionCounts] = []
        _, models = self._state.counting.report()
        known, self._told = self._told, {}
        for versions in models:
            for counts in versions:
                key = counts.model, counts.version, counts.region
                self._told[key] = counts
                if known.get(key) != counts:
                    changed.append(counts)
            await asyncio.sleep(0)
        return changed

    async def _look(self) -> dict[str, Seen]:
        """Return what is known of the clusters, where there is anything."""
        state, found = self._state, dict[str, Seen]()
        endpoints = state.table.endpoints if state.table is not None else {}
        now_s = state.clock.monotonic_s()
        for number, name in enumerate(endpoints, 1):
            breaker, rtt_ms, reason = state.signals.health(name, now_s)
            if breaker is BreakerState.OPEN or rtt_ms is not None:
                found[name] = Seen(breaker is BreakerState.OPEN, rtt_ms, reason)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return found
