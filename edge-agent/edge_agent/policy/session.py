"""The life of the agent's connection to its control plane: when to dial, when to report.

Input: what the link tells (dialled, welcomed, moved, broken, refused, changed), each with the time
in monotonic seconds. Output: when to dial next; the epoch and sequence of each report. It decides
nothing about models: without a control plane the agent goes on as it is.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from federation.contract.errors import InvalidTransition
from federation.runtime.backoff import Backoff, Dice


class LinkState(StrEnum):
    """How the connection stands."""

    DISCONNECTED = "disconnected"  # no stream; the next dial is only a matter of time
    CONNECTING = "connecting"  # a stream was opened and a hello sent; no welcome yet
    JOINED = "joined"  # welcomed: there is an epoch, and reports flow
    REFUSED = "refused"  # the control plane said no, and why; it is asked again, slowly


class LinkStep(StrEnum):
    """What moves the connection from one state to the next."""

    DIALLED = "dialled"
    WELCOMED = "welcomed"
    MOVED = "moved"  # to a newer stream, which was welcomed before the older one was left
    BROKEN = "broken"
    REFUSED = "refused"


TRANSITIONS: dict[tuple[LinkState, LinkStep], LinkState] = {
    (LinkState.DISCONNECTED, LinkStep.DIALLED): LinkState.CONNECTING,
    (LinkState.REFUSED, LinkStep.DIALLED): LinkState.CONNECTING,
    (LinkState.CONNECTING, LinkStep.WELCOMED): LinkState.JOINED,
    (LinkState.CONNECTING, LinkStep.BROKEN): LinkState.DISCONNECTED,
    (LinkState.CONNECTING, LinkStep.REFUSED): LinkState.REFUSED,
    (LinkState.JOINED, LinkStep.MOVED): LinkState.JOINED,
    (LinkState.JOINED, LinkStep.BROKEN): LinkState.DISCONNECTED,
    (LinkState.JOINED, LinkStep.REFUSED): LinkState.REFUSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPatience:
    """How long the session waits. Seconds."""

    broken: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, cap_s=5.0))
    refused: Backoff = field(default_factory=lambda: Backoff(first_s=2.0, cap_s=30.0))
    steady_s: float = 30.0  # a stream that lasted so long forgives earlier failures
    report_gap_s: float = 0.1  # the least time between two reports


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcomed:
    """What the control plane answered to a hello."""

    epoch: int
    report_interval_s: float


class Session:
    """One agent's connection, over all its streams."""

    def __init__(self, *, dice: Dice, patience: LinkPatience | None = None) -> None:
        self._dice = dice
        self._patience = patience or LinkPatience()
        self.state = LinkState.DISCONNECTED
        self.epoch = 0
        self.reason = ""  # why there is no connection, in words; empty when joined
        self.dial_s = float("-inf")  # not before this time
        self._failures = 0
        self._joined_s = 0.0
        self._interval_s = 1.0
        self._sequence = 0
        self._sent_s = float("-inf")
        self._changed = False

    def __repr__(self) -> str:
        why = f", {self.reason}" if self.reason else ""
        return f"Session({self.state}, epoch={self.epoch}, sequence={self._sequence}{why})"

    # ------------------------------------------------------------ the stream's life

    def dialled(self) -> None:
        """Note that a stream was opened and a hello sent."""
        self._step(LinkStep.DIALLED)

    def welcomed(self, welcome: Welcomed, now: float) -> None:
        """Note the welcome; reports begin anew in its epoch, the first one at once."""
        self._step(LinkStep.WELCOMED)
        self._begin(welcome, now)

    def moved(self, welcome: Welcomed, now: float) -> None:
        """Note that a newer stream took over; its epoch begins as with a first welcome."""
        self._step(LinkStep.MOVED)
        self._begin(welcome, now)

    def broken(self, reason: str, now: float) -> None:
        """Note that the stream ended; a short wait follows, longer after each failure."""
        self._ended(LinkStep.BROKEN, reason, self._patience.broken, now)

    def refused(self, reason: str, now: float) -> None:
        """Note a refusal that only an operator can change; a long wait follows."""
        self._ended(LinkStep.REFUSED, reason, self._patience.refused, now)

    # ------------------------------------------------------------ reports

    def changed(self) -> None:
        """Note that there is something new to report."""
        self._changed = True

    def report_s(self) -> float:
        """Return when the next report is due: soon after a change, else after the interval."""
        gap_s = self._patience.report_gap_s if self._changed else self._interval_s
        return self._sent_s + gap_s

    def stamp_report(self, now: float) -> tuple[int, int]:
        """Return (epoch, sequence) of a report that is sent now."""
        self._sequence += 1
        self._sent_s, self._changed = now, False
        return self.epoch, self._sequence

    # ------------------------------------------------------------ small parts

    def _step(self, step: LinkStep) -> None:
        if (self.state, step) not in TRANSITIONS:
            raise InvalidTransition("the link", self.state, step)
        self.state = TRANSITIONS[self.state, step]

    def _begin(self, welcome: Welcomed, now: float) -> None:
        self.epoch, self._sequence = welcome.epoch, 0
        self._interval_s = welcome.report_interval_s
        self._joined_s, self._sent_s, self._changed = now, float("-inf"), True
        self.reason = ""

    def _ended(self, step: LinkStep, reason: str, patience: Backoff, now: float) -> None:
        was_steady = (
            self.state is LinkState.JOINED and now - self._joined_s >= self._patience.steady_s
        )
        self._step(step)
        self._failures = 1 if was_steady else self._failures + 1
        self.reason = reason
        self.dial_s = now + patience.delay_s(self._failures, self._dice)
