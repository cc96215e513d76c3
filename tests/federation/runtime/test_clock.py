"""Both clocks keep what they promise."""

from datetime import UTC, timedelta

from federation.runtime.clock import Clock, ManualClock, SystemClock


def test_the_machines_clock_is_utc_and_never_goes_back() -> None:
    clock: Clock = SystemClock()
    assert clock.utc().tzinfo is UTC
    first = clock.monotonic_s()
    assert clock.monotonic_s() >= first


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock()
    start = clock.utc()
    assert clock.utc() == start
    clock.advance(1.5)
    assert clock.monotonic_s() == 1.5
    assert clock.utc() - start == timedelta(seconds=1.5)
    assert repr(clock) == "ManualClock(+1.500s)"
