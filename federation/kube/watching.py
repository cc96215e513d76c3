"""How one kind of objects is kept known: when to list, when to watch, how long to wait.

Input: what became of each request (listed, heard, ended, expired, broken, refused), each with the
time in monotonic seconds. Output: the next request, and not before when; since when the picture is
proven. Lists are followed by watches from their version; a broken watch goes on from the last
version that was heard; only what the server has forgotten (410) is listed again.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes

However the server behaves, a list or watch begins at most once a second, apart from the first watch
after an undisturbed list.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from federation.contract.errors import InvalidTransition
from federation.runtime.backoff import Backoff, Dice


class WatchState(StrEnum):
    """What is known of one kind of objects."""

    UNLISTED = "unlisted"  # nothing, or nothing that could be continued: a list is next
    LISTING = "listing"  # a list was asked for
    LISTED = "listed"  # all, as of a version: a watch from there is next
    WATCHING = "watching"  # all, and changes are told as they happen
    REFUSED = "refused"  # the server doesn't have or doesn't show it; it is asked again, slowly


class WatchStep(StrEnum):
    """What moves it from one state to the next."""

    ASKED = "asked"
    LISTED = "listed"
    ENDED = "ended"  # the watch, as it should
    EXPIRED = "expired"  # the version is too old to go on from (410)
    BROKEN = "broken"
    REFUSED = "refused"  # 403 or 404


TRANSITIONS: dict[tuple[WatchState, WatchStep], WatchState] = {
    (WatchState.UNLISTED, WatchStep.ASKED): WatchState.LISTING,
    (WatchState.REFUSED, WatchStep.ASKED): WatchState.LISTING,
    (WatchState.LISTED, WatchStep.ASKED): WatchState.WATCHING,
    (WatchState.LISTING, WatchStep.LISTED): WatchState.LISTED,
    (WatchState.LISTING, WatchStep.EXPIRED): WatchState.UNLISTED,
    (WatchState.LISTING, WatchStep.BROKEN): WatchState.UNLISTED,
    (WatchState.LISTING, WatchStep.REFUSED): WatchState.REFUSED,
    (WatchState.WATCHING, WatchStep.ENDED): WatchState.LISTED,
    (WatchState.WATCHING, WatchStep.BROKEN): WatchState.LISTED,
    (WatchState.WATCHING, WatchStep.EXPIRED): WatchState.UNLISTED,
    (WatchState.WATCHING, WatchStep.REFUSED): WatchState.REFUSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPatience:
    """How long to wait. Seconds.

    A watch is renewed every `watch_s` to `watch_s * (1 + spread)`: each end, like each bookmark, is
    a proof that nothing was missed, so a dead connection is noticed that soon.
    """

    gap_s: float = 1.0
    broken: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, cap_s=15.0))
    refused_s: float = 60.0
    watch_s: float = 20.0
    spread: float = 0.5


@dataclass(frozen=True, slots=True)
class List:
    """Command: list all objects."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Command: watch what changes after `version`, for `timeout_s` seconds."""

    version: str
    timeout_s: float


class Watching:
    """One kind of objects, over all its requests."""

    def __init__(self, what: str, *, dice: Dice, patience: WatchPatience | None = None) -> None:
        self._what = what
        self._dice = dice
        self._patience = patience or WatchPatience()
        self.state = WatchState.UNLISTED
        self.reason = ""  # why it is not watched, in words; empty when it is
        self.next_s = float("-inf")  # the next request, not before this time
        self.proven_s: float | None = None  # the picture was complete at this time
        self.version = ""
        self._failures = 0
        self._asked_s = float("-inf")
        self._heard = False  # something, on this watch

    def __repr__(self) -> str:
        why = f", {self.reason}" if self.reason else ""
        return f"Watching({self._what}: {self.state}, failures={self._failures}{why})"

    @property
    def settled(self) -> bool:
        """Whether it is known what there is, or that it is not shown."""
        return self.proven_s is not None or self.state is WatchState.REFUSED

    @property
    def shown(self) -> bool:
        """Whether the server has and shows this kind, as far as it is known."""
        return self.state is not WatchState.REFUSED

    def ask(self, now: float) -> List | Watch:
        """Return the next request, which is made now."""
        was = self.state
        self._step(WatchStep.ASKED)
        self._asked_s, self._heard = now, False
        if was is not WatchState.LISTED:
            return List()
        spread = 1.0 + self._patience.spread * self._dice.random()
        return Watch(self.version, self._patience.watch_s * spread)

    def listed(self, version: str, now: float) -> None:
        """Note that all pages of a list have come; it is true of the time when it was asked for."""
        self._step(WatchStep.LISTED)
        self.version, self.proven_s = version, self._asked_s
        if not self._failures:
            self.reason = ""
        self.next_s = now if not self._failures else now + self._patience.gap_s

    def heard(self, version: str, now: float) -> None:
        """Note an event or a bookmark: whatever came before it is known."""
        if self.state is not WatchState.WATCHING:
            raise InvalidTransition(self._what, self.state, "heard")
        self.version = version or self.version
        self._proven(now)

    def ended(self, now: float) -> None:
        """Note that the server ended a watch without an error."""
        self._step(WatchStep.ENDED)
        if self._heard or now - self._asked_s >= self._patience.gap_s:
            self._proven(now)
            self.next_s = max(now, self._asked_s + self._patience.gap_s)
        else:
            self._failed("the API server ends watches at once", now)

    def expired(self, now: float) -> None:
        """Note that the server no longer knows the version: everything is listed again."""
        self._step(WatchStep.EXPIRED)
        if self._heard:
            self._failures = 0
        self._failed("the API server no longer knows the version that was seen last", now)

    def broken(self, reason: str, now: float, *, retry_after_s: float = 0.0) -> None:
        """Note that a request failed, or that a watch broke off or is dead."""
        self._step(WatchStep.BROKEN)
        self._failed(reason, now, retry_after_s)

    def refused(self, reason: str, now: float) -> None:
        """Note that the server doesn't have this kind, or doesn't show it."""
        self._step(WatchStep.REFUSED)
        self.reason, self._failures, self.proven_s = reason, 0, None
        self.next_s = now + self._patience.refused_s * (1.0 + self._dice.random())

    # ------------------------------------------------------------ small parts

    def _step(self, step: WatchStep) -> None:
        if (self.state, step) not in TRANSITIONS:
            raise InvalidTransition(self._what, self.state, step)
        self.state = TRANSITIONS[self.state, step]

    def _proven(self, now: float) -> None:
        self._heard, self._failures, self.proven_s, self.reason = True, 0, now, ""

    def _failed(self, reason: str, now: float, retry_after_s: float = 0.0) -> None:
        self.reason = reason
        self._failures += 1
        wait_s = self._patience.broken.delay_s(self._failures, self._dice)
        asked_s = retry_after_s * (1.0 + 0.2 * self._dice.random())
        self.next_s = now + max(self._patience.gap_s, wait_s, asked_s)
