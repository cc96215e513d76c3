"""Which part of a tenant's limits each worker hands out: more where more of its requests come.

Input: how many requests of each tenant each worker had so far. Output: for each tenant the parts of
the workers; they add up to one. The system spreads connections, not requests, so that a tenant with
few of them would otherwise be held to the part of the workers that happen to have them.
"""

from collections.abc import Mapping

EVEN = 0.1  # of each limit is spread evenly, for whoever comes to another worker
_FADES = 0.7  # each time, what was before counts so much


class Portions:
    """The parts of all tenants that were heard of."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._before: dict[int, Mapping[str, float]] = {}  # by worker
        self._pace: dict[str, list[float]] = {}  # by tenant: lately, at each worker

    def __repr__(self) -> str:
        return f"Portions({len(self._pace)} tenants, {self._workers} workers)"

    def note(self, asked: Mapping[int, Mapping[str, float]]) -> None:
        """Take in the requests so far, by worker and tenant; a worker that began anew has fewer."""
        for paces in self._pace.values():
            paces[:] = [pace * _FADES for pace in paces]
        for worker, tenants in asked.items():
            known = self._before.get(worker, {})
            for tenant, count in tenants.items():
                more = count - known.get(tenant, 0.0)
                paces = self._pace.setdefault(tenant, [0.0] * self._workers)
                paces[worker] += count if more < 0.0 else more
        self._before = dict(asked)
        told = {tenant for tenants in asked.values() for tenant in tenants}
        self._pace = {tenant: paces for tenant, paces in self._pace.items() if tenant in told}

    def of(self, worker: int) -> dict[str, float]:
        """Return the part of each tenant's limits that a worker hands out."""
        found = {}
        for tenant, paces in self._pace.items():
            whole, even = sum(paces), 1.0 / self._workers
            drawn = paces[worker] / whole if whole > 0.5 else even
            found[tenant] = round(EVEN * even + (1.0 - EVEN) * drawn, 4)
        return found
