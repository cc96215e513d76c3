"""How many replicas a load asks for: the table, and what must hold for any load."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.contract.capacity import Calibration
from federation.contract.scaling import Scaling, ScalingMode
from federation.policy.autoscaling import Load, Scale, follow, work_of

START = datetime(2026, 1, 1, tzinfo=UTC)
PAUSE_S = 5.0
TENSORS = Calibration(per_second=100.0, latency_ms=10.0, concurrency=8)
TOKENS = Calibration(per_second=900.0, latency_ms=80.0, concurrency=8, unit="tokens")


def limits(least: int = 1, most: int = 10, **changes: float) -> Scaling:
    return Scaling(mode=ScalingMode.AUTO, min=least, max=most, **changes)


def looks(work: Sequence[float], scaling: Scaling, *, there: int = 1) -> list[int]:
    """What is asked for after each look, one every five seconds."""
    scale: Scale | None = None
    asked = []
    for number, each in enumerate(work):
        now = START + timedelta(seconds=PAUSE_S * number)
        scale = follow(scale, each, there=there, limits=scaling, now=now)
        asked.append(scale.asked)
    return asked


@pytest.mark.parametrize(
    ("rounds", "asked"),
    [
        ((0.0, 0.0), 1),  # the window is waited for
        ((2.0, 2.0), 3),
        ((1.0, 4.0), 3),
        ((4.0, 2.0), 1),  # it shrinks by itself
        ((0.5, 2.0), 1),  # a peak
        ((2.0, 0.0), 1),
    ],
)
def test_a_queue_that_stays_is_not_waited_for(rounds: tuple[float, float], asked: int) -> None:
    scale: Scale | None = None
    for number, each in enumerate(rounds):
        now = START + timedelta(seconds=PAUSE_S * number)
        scale = follow(scale, 2.0, there=1, limits=limits(up_s=60.0), now=now, rounds=each)
    assert scale is not None
    assert scale.asked == asked


def test_rounds_are_what_waits_against_what_replicas_do_at_once() -> None:
    assert Load(replicas=2, queued=6).rounds == 3.0
    assert Load(replicas=2, queued=32, calibration=TENSORS).rounds == 2.0
    assert Load(replicas=2).rounds == Load(replicas=0, queued=0).rounds == 0.0


@pytest.mark.parametrize(
    ("load", "work"),
    [
        # Nothing was measured: one request at a time.
        (Load(replicas=3), 0.0),
        (Load(replicas=3, in_flight=4), 4.0),
        (Load(replicas=3, rate=50.0, latency_ms=30.0), 1.5),
        (Load(replicas=3, in_flight=1, rate=50.0, latency_ms=30.0), 1.5),
        # Two replicas do 100 a second together.
        (Load(replicas=2, rate=60.0, latency_ms=20.0, calibration=TENSORS), 1.2),
        (Load(replicas=2, rate=60.0, in_flight=7, calibration=TENSORS), 1.2),
        (
            Load(replicas=2, rate=100.0, in_flight=24, calibration=TENSORS),
            4.0,
        ),  # 16 of 24 wait: how many come, it does not tell
        # Of text the rate is in requests, so what is in flight counts.
        (Load(replicas=2, rate=60.0, in_flight=4, calibration=TOKENS), 1.0),
        (Load(replicas=1, in_flight=4, calibration=TOKENS), 0.5),
        # What a peer may write.
        (Load(replicas=0, in_flight=3), 2.0),
        # What waits in the engine is work, also if it did not come through the gateway.
        (Load(replicas=3, in_flight=1, queued=5), 5.0),
        (Load(replicas=2, queued=64, calibration=TENSORS), 4.0),
        (Load(replicas=2, queued=0, rate=60.0, calibration=TENSORS), 1.2),
        (Load(replicas=3, in_flight=900), 6.0),
        (Load(replicas=0, rate=50.0, calibration=TENSORS), 0.5),
        (
            Load(
                replicas=2,
                in_flight=3,
                calibration=Calibration(per_second=0, latency_ms=0, concurrency=0),
            ),
            3.0,
        ),
        (
            Load(
                replicas=2,
                in_flight=3,
                calibration=Calibration(per_second=0, latency_ms=0, concurrency=2),
            ),
            3.0,
        ),
    ],
)
def test_work(load: Load, work: float) -> None:
    assert work_of(load) == pytest.approx(work)


@pytest.mark.parametrize(
    ("work", "asked"),
    [
        ([0.7] * 3, [1, 1, 1]),  # busy to the target
        ([0.71] * 5, [1, 1, 1, 2, 2]),  # more, for all of 15 s
        ([3.0] * 4, [1, 1, 1, 5]),  # at once as many as are needed
        ([3.0, 3.0, 3.0, 1.5, 3.0, 3.0], [1, 1, 1, 3, 3, 3]),  # as many as all looks asked for
        ([3.0, 3.0, 0.1, 3.0, 3.0, 3.0, 3.0], [1, 1, 1, 1, 1, 5, 5]),  # a peak that is no load
        ([99.0] * 4, [1, 1, 1, 10]),
    ],
)
def test_up_fast(work: list[float], asked: list[int]) -> None:
    assert looks(work, limits(up_s=14.0)) == asked


def test_down_slowly() -> None:
    down = looks([0.3] * 62, limits(), there=5)
    assert down == [5] * 60 + [1] * 2  # 300 s
    dip = looks([3.0] * 20 + [0.3] * 20 + [3.0] * 20 + [0.3] * 59, limits(), there=5)
    assert set(dip) == {5}


def test_down_to_what_was_needed_at_most() -> None:
    down = looks([1.2, 0.3, 0.3, 0.3, 0.3], limits(down_s=15.0), there=5)
    assert down == [5, 5, 5, 2, 1]


def test_one_less_must_not_be_nearly_too_busy() -> None:
    scaling = limits(up_s=0.0, down_s=0.0)
    assert looks([0.69], scaling, there=1) == [1]
    assert looks([0.69], scaling, there=2) == [2]  # not back to one that is busy to 0.69
    assert looks([0.62], scaling, there=2) == [1]


def test_limits_that_changed_hold_at_once() -> None:
    scale = follow(None, 3.0, there=5, limits=limits(), now=START)
    assert follow(scale, 3.0, there=5, limits=limits(most=2), now=START).asked == 2
    assert follow(scale, 3.0, there=5, limits=limits(7), now=START).asked == 7


def test_a_clock_that_was_set_back_begins_the_windows_anew() -> None:
    late = follow(None, 9.0, there=1, limits=limits(), now=START + timedelta(hours=1))
    again = follow(late, 9.0, there=4, limits=limits(), now=START)
    assert (again.asked, again.since) == (4, START)


WORK = st.floats(0, 50, allow_nan=False)
SCALINGS = st.builds(
    lambda least, more, target, up, down: limits(
        least, least + more, target=target, up_s=up, down_s=down
    ),
    st.integers(1, 5),
    st.integers(0, 20),
    st.floats(0.05, 1.0),
    st.integers(0, 30),
    st.integers(0, 60),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORK, min_size=1, max_size=40), SCALINGS, st.integers(0, 40))
def test_never_outside_the_limits(work: list[float], scaling: Scaling, there: int) -> None:
    assert all(scaling.min <= each <= scaling.max for each in looks(work, scaling, there=there))


@settings(max_examples=60, deadline=None)
@given(WORK, SCALINGS, st.integers(1, 30))
def test_a_constant_load_changes_the_number_at_most_once(
    work: float, scaling: Scaling, there: int
) -> None:
    asked = looks([work] * 40, scaling, there=there)
    first = scaling.within(there)
    changes = [new for old, new in zip([first, *asked], asked, strict=False) if new != old]
    assert len(changes) <= 1
    last = asked[-1]
    assert last == scaling.max or work <= scaling.target * last + 1e-6
    # Its own number is where it stays, whatever it came from.
    assert set(looks([work] * 40, scaling, there=last)) == {last}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(WORK, st.floats(0, 10)), min_size=1, max_size=30),
    SCALINGS,
    st.integers(1, 20),
    st.integers(0, 5),
)
def test_more_load_never_asks_for_less(
    pairs: list[tuple[float, float]], scaling: Scaling, there: int, more: int
) -> None:
    low = looks([each for each, _ in pairs], scaling, there=there)
    high = looks([each + extra for each, extra in pairs], scaling, there=there + more)
    assert all(a <= b for a, b in zip(low, high, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(WORK, min_size=1, max_size=60), SCALINGS)
def test_only_the_windows_matter(work: list[float], scaling: Scaling) -> None:
    """By the book: the extremes of all looks of a window, kept in full."""
    asked, there = looks(work, scaling, there=1), scaling.within(1)
    for number, given_ in enumerate(asked):
        age = {n: (number - n) * PAUSE_S for n in range(number + 1)}
        up = min(_asks(work[n], scaling, 1.0) for n in age if age[n] <= scaling.up_s)
        down = max(_asks(work[n], scaling, 0.9) for n in age if age[n] <= scaling.down_s)
        if age[0] >= scaling.up_s:
            there = max(there, up)
        if age[0] >= scaling.down_s:
            there = min(there, down)
        assert given_ == there


def _asks(work: float, scaling: Scaling, slack: float) -> int:
    enough = (n for n in range(1_001) if work <= scaling.target * slack * (n + 1e-9))
    return scaling.within(next(enough, 1_000))


def serve(rate: float, seconds: int, scaling: Scaling, *, starting_s: float = 20.0) -> list[int]:
    """What is asked for each 5 s by a fluid model of a cluster: a replica does 100 a second with 8
    in flight, what comes beyond that waits, and new replicas serve only after a while."""
    there, asked, backlog = 1, [1], 0.0
    coming: list[tuple[float, int]] = []
    scale: Scale | None = None
    for number in range(int(seconds / PAUSE_S)):
        at_s = number * PAUSE_S
        there = next((n for since, n in reversed(coming) if since <= at_s), there)
        capacity = 100.0 * there
        backlog = min(max(backlog + (rate - capacity) * PAUSE_S, 0.0), 256.0 * there)
        busy = min(rate, capacity) / capacity
        load = Load(
            replicas=there,
            rate=min(rate, capacity),
            in_flight=round(8 * there * busy + backlog),
            calibration=Calibration(per_second=capacity, latency_ms=80.0, concurrency=8 * there),
        )
        now = START + timedelta(seconds=at_s)
        scale = follow(scale, work_of(load), there=there, limits=scaling, now=now)
        if scale.asked != asked[-1]:
            coming.append((at_s + (starting_s if scale.asked > asked[-1] else 0), scale.asked))
        asked.append(scale.asked)
    return asked


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 1_500), st.floats(0.3, 0.9), st.floats(0, 120))
def test_a_cluster_under_constant_load_comes_to_rest(
    rate: float, target: float, starting_s: float
) -> None:
    """Though what is seen depends on what was asked for: a backlog asks for more than the load."""
    asked = serve(rate, 1_800, limits(most=20, target=target), starting_s=starting_s)
    last = asked[-1]
    assert set(asked[-120:]) == {last}
    assert last == 20 or rate <= 100 * target * last * 1.001
    assert last <= max(rate / (100 * target * 0.9) + 1, 1)
    ups = sum(new > old for old, new in pairwise(asked))
    downs = sum(new < old for old, new in pairwise(asked))
    assert ups <= 4
    assert downs <= 4
