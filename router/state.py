"""What the parts of one router share: its identity, its routing table, what it has learned.

Input: `watch` swaps tables in, `proxy` and `probe` add to the signals. Output: read by all of them
and by `explain`. One object per router, handed down by keyword: many can live in one process.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from federation.contract.errors import Unavailable
from federation.contract.types import Location
from federation.runtime.backoff import Dice
from federation.runtime.clock import Clock
from router.policy.breaker import BreakerState
from router.policy.retry import RetryBudget
from router.policy.signals import Signals
from router.policy.table import RoutingTable


@dataclass(slots=True, kw_only=True)
class RouterState:
    """The mutable heart of a router."""

    name: str
    clock: Clock
    dice: Dice
    location: Location | None = None
    signals: Signals = field(default_factory=Signals)
    budget: RetryBudget = field(default_factory=RetryBudget)
    table: RoutingTable | None = None
    table_at_s: float = 0.0
    requests_total: int = 0
    errors_total: int = 0
    on_swap: list[Callable[[RoutingTable], None]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"RouterState({self.name}, {self.table}, {self.signals}, {self.budget})"

    def swap(self, table: RoutingTable) -> None:
        """Route by another table from now on; requests under way keep the one they began with."""
        self.signals.retain({name: e.url for name, e in table.endpoints.items()})
        self.table, self.table_at_s = table, self.clock.monotonic_s()
        for tell in self.on_swap:
            tell(table)

    def require_table(self) -> RoutingTable:
        """Return the table; raises Unavailable before the first one is there."""
        if self.table is None:
            raise Unavailable(
                f"Router {self.name!r} has no routing table yet.",
                hint="It gets one from the control plane; try again in a moment.",
                reason="no-table",
            )
        return self.table

    def health(self) -> dict[str, tuple[float | None, bool, str]]:
        """Return for each cluster its round-trip time in ms, whether it gets traffic, why not."""
        if self.table is None:
            return {}
        now_s = self.clock.monotonic_s()
        seen = {name: self.signals.health(name, now_s) for name in self.table.endpoints}
        return {
            name: (rtt_ms, state is not BreakerState.OPEN, reason)
            for name, (state, rtt_ms, reason) in seen.items()
        }
