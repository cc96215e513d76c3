"""How many connections an agent behind NAT holds open to one router.

Input: what there is now (Stock), what became of dials, the time in monotonic seconds. Output: a
Plan: how many to dial, how many idle ones to give up. A few are always idle, so that a request need
not wait; the stock grows with the load at once and shrinks slowly. Dials are bounded, and a router
that cannot be reached or refuses is asked by one dial at a time, ever more seldom.
"""

from dataclasses import dataclass, field

from federation.runtime.backoff import Backoff, Dice


@dataclass(frozen=True, slots=True, kw_only=True)
class StockLimits:
    """Bounds for one router. `idle` are open at least, all kinds together at most `ceiling`.

    `dialling` bounds dials at once. A surplus is given up in steps `shrink_s` apart, the first one
    `surplus_s` after it came to be.
    """

    idle: int = 4
    ceiling: int = 256
    dialling: int = 32
    surplus_s: float = 30.0
    shrink_s: float = 5.0
    broken: Backoff = field(default_factory=lambda: Backoff(first_s=0.1, cap_s=1.0))
    refused: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, cap_s=10.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """The connections to one router. `old` are idle too, but wait to be replaced; `leaving` were
    given up and are not closed yet; `waiting` requests found none idle at the router."""

    idle: int = 0
    old: int = 0
    busy: int = 0
    leaving: int = 0
    dialling: int = 0
    waiting: int = 0

    @property
    def total(self) -> int:
        """How many connections there are or may be soon."""
        return self.idle + self.old + self.busy + self.leaving + self.dialling


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Dial `dial`, give up `give_up` idle and `give_up_old` old ones; decide again at `again_s`."""

    dial: int = 0
    give_up: int = 0
    give_up_old: int = 0
    again_s: float = float("inf")


class Supply:
    """The decisions for one router."""

    def __init__(self, *, dice: Dice, limits: StockLimits | None = None) -> None:
        self.wanted = True  # whether the router is on the list, and the agent does not stop
        self.failures = 0
        self._dice = dice
        self._limits = limits or StockLimits()
        self._refused = False  # the last failure was a refusal
        self._failed_s = float("-inf")
        self._dial_s = float("-inf")  # not before this time
        self._shrink_s: float | None = None  # None: there is no surplus

    def __repr__(self) -> str:
        wanted = "wanted" if self.wanted else "unwanted"
        return f"Supply({wanted}, failures={self.failures})"

    # ------------------------------------------------------------ what became of dials

    def failed(self, *, dialled_s: float, now: float, refused: bool) -> None:
        """Note that a dial begun at `dialled_s` failed. Dials that were under way at the same time
        and fail as well say nothing new."""
        if dialled_s <= self._failed_s:
            return
        self.failures += 1
        self._refused = refused
        self._failed_s = now
        self._wait(now)

    def opened(self) -> None:
        """Note that a router was reached. That it does not refuse is not known yet: its refusal
        comes after the handshake (TLS 1.3)."""
        if not self._refused:
            self.failures = 0

    def proved(self) -> None:
        """Note that a connection carried a request, or lived for a while: all is well."""
        self.failures, self._refused = 0, False

    def forgive(self) -> None:
        """Note that our certificate or trust changed: what was refused may be taken now."""
        self._dial_s = float("-inf")

    # ------------------------------------------------------------ the decision

    @property
    def least_idle(self) -> int:
        """How many are idle at least, whatever the load."""
        return self._limits.idle

    def target(self, stock: Stock) -> int:
        """Return how many should be idle."""
        return max(self._limits.idle, (stock.busy + 1) // 2)

    def decide(self, stock: Stock, now: float) -> Plan:
        """Return what to do now."""
        if not self.wanted:
            return Plan(give_up=stock.idle, give_up_old=stock.old)
        missing = max(0, self.target(stock) + stock.waiting - stock.idle - stock.dialling)
        room = max(0, self._limits.ceiling - stock.total)
        give_up, shrink_s = self._surplus(stock, now)
        dial = max(0, min(missing, room, self._dials(now) - stock.dialling))
        if dial and self.failures:
            self._wait(now)  # a trial: what comes of it is known later
        blocked = min(missing, room) > dial and self.failures and not stock.dialling + dial
        return Plan(
            dial=dial,
            give_up=give_up,
            give_up_old=self._replaced(stock, missing=missing, room=room),
            again_s=min(shrink_s, self._dial_s if blocked else float("inf")),
        )

    def _wait(self, now: float) -> None:
        patience = self._limits.refused if self._refused else self._limits.broken
        self._dial_s = now + patience.delay_s(self.failures, self._dice)

    def _dials(self, now: float) -> int:
        """Return how many dials may be under way."""
        if not self.failures:
            return self._limits.dialling
        return 1 if now >= self._dial_s else 0

    def _replaced(self, stock: Stock, *, missing: int, room: int) -> int:
        """Return how many old ones may go: all once they are replaced, some to make room."""
        if stock.idle >= self.target(stock):
            return stock.old
        return min(stock.old, max(0, missing - room))

    def _surplus(self, stock: Stock, now: float) -> tuple[int, float]:
        """Return how many idle ones to give up now, and when to look again."""
        surplus = stock.idle - self.target(stock) - stock.waiting
        if surplus <= 0:
            self._shrink_s = None
            return 0, float("inf")
        if self._shrink_s is None:
            self._shrink_s = now + self._limits.surplus_s
        if now < self._shrink_s:
            return 0, self._shrink_s
        self._shrink_s = now + self._limits.shrink_s
        return (surplus + 7) // 8, self._shrink_s
