"""What the parts of one router share: its identity, its routing table, what it has learned.

Input: `watch` swaps tables in, `proxy` and `probe` add to the signals. Output: read by all of them
and by `explain`. One object per router, handed down by keyword: many can live in one process.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from zlib import crc32

from federation.contract.errors import Unavailable
from federation.contract.types import Location
from federation.runtime.backoff import Dice
from federation.runtime.clock import Clock
from federation.trust.credentials import Credentials
from router.counting import Counting
from router.policy.breaker import BreakerState
from router.policy.hedging import Hedging
from router.policy.retry import RetryBudget
from router.policy.signals import Signals
from router.policy.table import Reach, RoutingTable
from router.records import Records


class Steer(StrEnum):
    """What clients are told that had better ask another router."""

    OFF = "off"
    TELL = "tell"  # a Link header
    REDIRECT = "redirect"  # those that say that they follow get a 307, too


@dataclass(slots=True, kw_only=True)
class RouterState:
    """The mutable heart of a router. `credentials` is None where it routes by a file alone."""

    name: str
    clock: Clock
    dice: Dice
    location: Location | None = None
    credentials: Credentials | None = None
    membership_problem: Callable[[], str] = lambda: ""  # why it has not joined or renewed
    revoked: bool = False  # the control plane says so
    reach: Reach = field(default_factory=Reach)
    signals: Signals = field(default_factory=Signals)
    budget: RetryBudget = field(default_factory=RetryBudget)
    hedging: Hedging = field(default_factory=Hedging)
    counting: Counting = field(default_factory=Counting)
    table: RoutingTable | None = None
    table_at_s: float = 0.0
    share: float = 1.0  # of the tenants' limits; a worker has its part of them
    allow_anonymous: bool = False  # requests without a key are served, too
    steer: Steer = Steer.TELL
    records: Records = field(default_factory=Records)
    requests_total: int = 0
    errors_total: int = 0
    see: Callable[[], Mapping[str, tuple[float | None, bool, str]]] | None = None  # see `health`
    on_swap: list[Callable[[RoutingTable], None]] = field(default_factory=list)
    demand: Callable[[], Mapping[str, int]] = dict  # what is asked for and sleeps, by model
    on_demand: list[Callable[[], None]] = field(default_factory=list)  # who tells the control plane

    def __repr__(self) -> str:
        return f"RouterState({self.name}, {self.table}, {self.signals}, {self.budget})"

    def __post_init__(self) -> None:
        self.signals.seed = crc32(self.name.encode())

    def swap(self, table: RoutingTable) -> None:
        """Route by another table from now on; requests under way keep the one they began with."""
        self.signals.retain({name: e.url for name, e in table.endpoints.items()})
        self.counting.retain(table)
        self.hedging.retain(table.models)
        self.table, self.table_at_s = table, self.clock.monotonic_s()
        for tell in self.on_swap:
            tell(table)

    def require_table(self) -> RoutingTable:
        """Return the table; raises Unavailable before the first one is there."""
        if self.table is not None:
            return self.table
        self._require_membership()
        raise Unavailable(
            f"Router {self.name!r} has no routing table yet.",
            hint="It gets one from the control plane; try again in a moment.",
            reason="no-table",
        )

    def require_ready(self) -> None:
        """Raise Unavailable, with the reason, unless requests can be answered."""
        self._require_membership()
        self.require_table()

    def _require_membership(self) -> None:
        if self.credentials is None:
            return
        if self.revoked:
            raise Unavailable(
                f"The membership of router {self.name!r} was revoked.",
                hint=self.membership_problem() or "An operator can let it join anew.",
                reason="certificate-revoked",
            )
        leaf, why = self.credentials.leaf, self.membership_problem()
        if leaf is None or self.credentials.trust is None:
            raise Unavailable(
                f"Router {self.name!r} has not joined the federation yet.",
                hint=why or "It asks the control plane; try again in a moment.",
                reason="not-joined",
            )
        if leaf.facts.not_after <= self.clock.utc():
            raise Unavailable(
                f"The certificate of router {self.name!r} expired at "
                f"{leaf.facts.not_after:%F %T} UTC.",
                hint=why or "It is being renewed; try again in a moment.",
                reason="certificate-expired",
            )

    def health(self) -> Mapping[str, tuple[float | None, bool, str]]:
        """Return for each cluster its round-trip time in ms, whether it gets traffic, why not. A
        router that is several processes has somebody else `see`."""
        if self.see is not None:
            return self.see()
        if self.table is None:
            return {}
        now_s = self.clock.monotonic_s()
        seen = {name: self.signals.health(name, now_s) for name in self.table.endpoints}
        return {
            name: (rtt_ms, state is not BreakerState.OPEN, reason)
            for name, (state, rtt_ms, reason) in seen.items()
        }
