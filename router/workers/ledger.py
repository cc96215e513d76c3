"""What the workers of a router report, as one: totals that never go backwards.

Input: reports and metrics of workers, by number; that one has ended. Output: totals over all that
live and all that lived. What a worker that was killed counted since its last report is lost.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from federation.contract.codec_rollout import MAX_COUNTED
from federation.contract.rollout import VersionCounts
from router.policy.table import RoutingTable
from router.workers.frames import Family, Report, Seen
from router.workers.sums import added, cumulative, merged, without

Key = tuple[str, int, str]
_OF_TENANTS, _OF_VERSIONS = "fed_router_tenant_", "fed_router_version_"


class Account:
    """What one worker said last; the counts of all reports since it started."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.demand: Mapping[str, int] = {}
        self.seen: Mapping[str, Seen] = {}
        self.counts: dict[Key, VersionCounts] = {}
        self.families: list[Family] = []
        self.tenants: Mapping[str, float] = {}

    def __repr__(self) -> str:
        return f"Account({self.requests} requests, {len(self.counts)} counts)"

    def take(self, report: Report) -> None:
        """Take in a report."""
        self.requests, self.errors = report.requests, report.errors
        self.demand, self.seen, self.tenants = report.demand, report.seen, report.tenants
        self.counts |= {(c.model, c.version, c.region): c for c in report.counts}


class Ledger:
    """The accounts of all workers. `gone` is what those counted that have ended."""

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.gone = Account()
        self._sequence = 0

    def __repr__(self) -> str:
        return f"Ledger({self.accounts}, gone={self.gone})"

    def of(self, worker: int) -> Account:
        """Return the account of a worker that lives."""
        return self.accounts.setdefault(worker, Account())

    def ended(self, worker: int) -> None:
        """Keep what a worker counted, and forget what it saw."""
        account = self.accounts.pop(worker, None)
        if account is None:
            return
        self.gone.requests += account.requests
        self.gone.errors += account.errors
        self.gone.families = merged([self.gone.families, cumulative(account.families)])
        for key, counts in account.counts.items():
            _add_to(self.gone.counts, key, counts)

    @property
    def requests(self) -> int:
        """All requests."""
        return self.gone.requests + sum(a.requests for a in self.accounts.values())

    @property
    def errors(self) -> int:
        """Those of them that failed."""
        return self.gone.errors + sum(a.errors for a in self.accounts.values())

    def demand(self) -> Mapping[str, int]:
        """Return the models that are asked for and sleep, with the requests that wait."""
        total: Counter[str] = Counter()
        for account in self.accounts.values():
            total.update(account.demand)
        return dict(total)

    def tenants(self) -> dict[int, Mapping[str, float]]:
        """Return the requests of each tenant so far, by worker."""
        return {worker: account.tenants for worker, account in self.accounts.items()}

    def seen(self, cluster: str) -> list[Seen]:
        """Return what workers say about a cluster."""
        return [a.seen[cluster] for a in self.accounts.values() if cluster in a.seen]

    def families(self) -> list[Family]:
        """Return the metrics of all."""
        return merged([*(a.families for a in self.accounts.values()), self.gone.families])

    def report(self, table: RoutingTable | None) -> tuple[int, Iterator[tuple[VersionCounts, ...]]]:
        """Return the number of this report, which rises, and all counts, model by model; those of
        models between two versions first, as there is an end to what is told."""
        self._sequence += 1
        whole: dict[Key, VersionCounts] = {}
        for account in (self.gone, *self.accounts.values()):
            for key, counts in account.counts.items():
                _add_to(whole, key, counts)
        by_model: dict[str, list[VersionCounts]] = {}
        for counts in whole.values():
            by_model.setdefault(counts.model, []).append(counts)
        return self._sequence, _in_order(by_model, table)

    def retain(self, table: RoutingTable) -> None:
        """Forget models and tenants that left the table."""
        for account in (self.gone, *self.accounts.values()):
            account.counts = {k: c for k, c in account.counts.items() if k[0] in table.models}
        tenants = table.access.callers

        def gone(family: str, labels: Mapping[str, str]) -> bool:
            if family.startswith(_OF_TENANTS):
                return labels.get("tenant") not in {*tenants, "anonymous"}
            return family.startswith(_OF_VERSIONS) and labels.get("model") not in table.models

        self.gone.families = without(self.gone.families, gone)


def _add_to(whole: dict[Key, VersionCounts], key: Key, counts: VersionCounts) -> None:
    whole[key] = added(whole[key], counts) if key in whole else counts


def _in_order(
    by_model: Mapping[str, Iterable[VersionCounts]], table: RoutingTable | None
) -> Iterator[tuple[VersionCounts, ...]]:
    models = table.models if table is not None else {}

    def settled(model: str) -> bool:
        return model not in models or models[model].canary is None

    left = MAX_COUNTED
    for model in sorted(by_model, key=settled):
        counts = tuple(by_model[model])
        left -= len(counts)
        if left < 0:
            return
        yield counts
