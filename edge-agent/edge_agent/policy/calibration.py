"""What a version can do on this hardware: which load to try next, and what was found. Pure.

Input: what was measured with 1, 2, 4, ... requests in flight all the time (a closed loop). Output:
the next number to try, or None; and from all of them a Calibration. No clock, no I/O.

The ramp ends where throughput did not grow twice in a row (once may be chance), where latency
passes its limit, or where the time is over. Of what was measured inside the limit, the fewest
requests in flight count that reach nearly the best throughput: more of them would only wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from federation.contract.capacity import Calibration

_GROWS = 1.1  # throughput that grew by less no longer grows
_NEARLY = 0.95  # of the best throughput


@dataclass(frozen=True, slots=True, kw_only=True)
class RampLimits:
    """How far a ramp goes. A step takes `step_s` and what its last requests still need; the whole
    ramp `total_s`."""

    total_s: float = 2.0
    step_s: float = 0.25
    latency_ms: float = 1_000.0
    concurrency: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One step: `units` of work in `seconds`, at a median latency (of text: of the first token)."""

    concurrency: int
    units: int
    seconds: float
    latency_ms: float

    @property
    def per_second(self) -> float:
        """Throughput."""
        return self.units / self.seconds if self.seconds > 0 else 0.0


def next_concurrency(steps: Sequence[Measured], limits: RampLimits, elapsed_s: float) -> int | None:
    """Return how many requests to keep in flight next; None = enough is known, or time is over."""
    if not steps:
        return 1
    last = steps[-1]
    wanted = last.concurrency * 2
    if last.latency_ms > limits.latency_ms or wanted > limits.concurrency:
        return None
    if len(steps) > 2:
        before = max(step.per_second for step in steps[:-2])
        if max(step.per_second for step in steps[-2:]) < _GROWS * before:
            return None
    # The next step is expected to take as long as this one did.
    return wanted if elapsed_s + max(last.seconds, limits.step_s) <= limits.total_s else None


def calibration_of(
    steps: Sequence[Measured], limits: RampLimits, *, unit: str
) -> Calibration | None:
    """Return what was found; None if nothing was. A version that is slower than the limit with a
    single request is told as it is."""
    useful = [step for step in steps if step.units > 0]
    fine = [step for step in useful if step.latency_ms <= limits.latency_ms] or useful[:1]
    if not fine:
        return None
    best = max(step.per_second for step in fine)
    chosen = next(step for step in fine if step.per_second >= _NEARLY * best)
    return Calibration(
        per_second=chosen.per_second,
        latency_ms=chosen.latency_ms,
        concurrency=chosen.concurrency,
        unit=unit,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A calibration that is remembered, and of what: `engine` and `device` in words."""

    digest: str
    engine: str
    device: str
    replicas: int
    calibration: Calibration


def recall(
    known: Sequence[Known], digest: str, place: tuple[str, str], replicas: int
) -> Known | None:
    """Return what is known of a version at an engine and device, of this number of replicas, or of
    the nearest one."""
    fitting = [k for k in known if (k.digest, k.engine, k.device) == (digest, *place)]
    return min(fitting, key=lambda k: (abs(k.replicas - replicas), k.replicas), default=None)


def scaled(known: Known, replicas: int) -> Calibration:
    """Return what another number of replicas can do, in proportion: until it is measured."""
    found, ratio = known.calibration, replicas / max(known.replicas, 1)
    if ratio == 1:
        return found
    return replace(
        found,
        per_second=found.per_second * ratio,
        concurrency=max(round(found.concurrency * ratio), 1),
    )
