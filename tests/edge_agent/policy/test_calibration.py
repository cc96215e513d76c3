"""The ramp: how far it goes, what it finds, and what is remembered."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.policy.calibration import (
    Known,
    Measured,
    RampLimits,
    calibration_of,
    next_concurrency,
    recall,
    scaled,
)
from federation.contract.capacity import Calibration

LIMITS = RampLimits(total_s=10.0)


def ramp(
    alone_ms: float, servers: float, limits: RampLimits = LIMITS
) -> tuple[list[Measured], float]:
    """What is measured of an engine that does `servers` requests at once; also how long it took."""
    steps: list[Measured] = []
    elapsed_s = 0.0
    while (wanted := next_concurrency(steps, limits, elapsed_s)) is not None:
        latency_s = alone_ms / 1000 * max(wanted / servers, 1)
        rounds = max(math.ceil(limits.step_s / latency_s), 1)
        seconds = rounds * latency_s
        steps.append(
            Measured(
                concurrency=wanted,
                units=rounds * wanted,
                seconds=seconds,
                latency_ms=latency_s * 1000,
            )
        )
        elapsed_s += seconds
    return steps, elapsed_s


@pytest.mark.parametrize(
    ("alone_ms", "servers", "tried", "found"),
    [
        (10, 1, [1, 2, 4], (1, 100)),  # more of them only wait
        (10, 4, [1, 2, 4, 8, 16], (4, 400)),
        (10, 6, [1, 2, 4, 8, 16, 32], (8, 600)),
        (10, 1000, [1, 2, 4, 8, 16, 32, 64], (64, 6400)),  # as far as is tried
        (900, 1, [1, 2], (1, 1 / 0.9)),
        (3000, 8, [1], (1, 1 / 3)),  # slower than the limit from the start: told as it is
        (400, 2, [1, 2, 4, 8], (2, 5)),
    ],
)
def test_the_knee_is_found(
    alone_ms: float, servers: float, tried: list[int], found: tuple[int, float]
) -> None:
    steps, _ = ramp(alone_ms, servers)
    assert [step.concurrency for step in steps] == tried
    calibration = calibration_of(steps, LIMITS, unit="inferences")
    assert calibration is not None
    assert calibration.concurrency == found[0]
    assert calibration.per_second == pytest.approx(found[1])


def test_the_time_is_limited() -> None:
    limits = RampLimits(total_s=2.0, step_s=0.25)
    steps, elapsed_s = ramp(500, 100, limits)
    assert ([step.concurrency for step in steps], elapsed_s) == ([1, 2, 4, 8], 2.0)


def test_one_step_that_was_disturbed_does_not_end_it() -> None:
    rates = [100, 180, 120, 700]  # of the third step somebody else took the half
    steps = [
        Measured(concurrency=2**n, units=rate, seconds=1.0, latency_ms=10)
        for n, rate in enumerate(rates)
    ]
    assert next_concurrency(steps[:3], LIMITS, 3.0) == 8
    assert next_concurrency(steps, LIMITS, 4.0) == 16


def test_what_answers_nothing_has_no_calibration() -> None:
    assert calibration_of([], LIMITS, unit="tokens") is None
    nothing = Measured(concurrency=1, units=0, seconds=0.0, latency_ms=1.0)
    assert calibration_of([nothing], LIMITS, unit="tokens") is None
    assert nothing.per_second == 0


def test_what_is_too_slow_under_load_does_not_count() -> None:
    steps = [
        Measured(concurrency=1, units=10, seconds=1, latency_ms=100),
        Measured(concurrency=2, units=15, seconds=1, latency_ms=1500),
    ]
    assert next_concurrency(steps, LIMITS, 2.0) is None
    found = calibration_of(steps, LIMITS, unit="tokens")
    assert found == Calibration(per_second=10, latency_ms=100, concurrency=1, unit="tokens")


@settings(max_examples=80, deadline=None)
@given(st.floats(0.5, 5_000), st.floats(1, 200), st.floats(0.3, 5))
def test_every_engine_is_measured_within_the_time(
    alone_ms: float, servers: float, total_s: float
) -> None:
    limits = RampLimits(total_s=total_s)
    steps, elapsed_s = ramp(alone_ms, servers, limits)
    found = calibration_of(steps, limits, unit="inferences")
    assert found is not None
    assert found.per_second <= servers / alone_ms * 1000 * 1.001
    assert found.per_second >= 0.95 * max(
        s.per_second for s in steps if s.latency_ms <= 1_000 or s is steps[0]
    )
    # The last step began in time, and is at most twice as slow as the one before.
    assert len(steps) == 1 or elapsed_s <= total_s + max(s.seconds for s in steps)


def test_what_is_remembered_is_of_one_content_engine_and_device() -> None:
    measured = Calibration(per_second=100, latency_ms=7, concurrency=8)

    def known(replicas: int, **other: str) -> Known:
        base = {"digest": "d", "engine": "triton 2", "device": "L4"} | other
        return Known(replicas=replicas, calibration=measured, **base)

    all_known = [known(1), known(4), known(2, device="H100"), known(2, digest="e")]
    assert recall(all_known, "d", ("triton 2", "L4"), 4) == known(4)
    assert recall(all_known, "d", ("triton 2", "L4"), 3) == known(4)
    assert recall(all_known, "d", ("triton 2", "A100"), 4) is None
    assert scaled(known(4), 4) is measured
    assert scaled(known(4), 2) == Calibration(per_second=50, latency_ms=7, concurrency=4)
    assert scaled(known(4), 0).concurrency == 1
