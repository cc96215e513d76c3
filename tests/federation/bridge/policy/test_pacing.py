"""Nobody is looked at more than once in a gap, and who fails waits longer and longer."""

import itertools
import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from federation.bridge.policy.pacing import Patience, Turns
from tests.depth import examples

PATIENCE = Patience()


class Ones:
    """The largest numbers that dice show."""

    def random(self) -> float:
        return 1.0


def turns() -> Turns[str]:
    return Turns(PATIENCE, Ones())


def test_a_change_is_looked_at_at_once_and_then_after_a_gap() -> None:
    its = turns()
    its.changed("a", 10.0)
    assert its.due(10.0) == ["a"]
    its.began("a", 10.0)
    assert its.next_s() == math.inf
    its.changed("a", 10.2)
    assert (its.due(10.9), its.next_s()) == ([], 11.0)
    assert its.due(11.0) == ["a"]


def test_failures_wait_twice_as_long_each_time_up_to_a_minute() -> None:
    its, waits = turns(), []
    for _ in range(8):
        its.changed("b", 0.0)  # another one changes nothing
        its.began("a", 100.0)
        its.failed("a", 100.0)
        its.forget("b")
        waits.append(its.next_s() - 100.0)
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert its.failing == 1
    its.nudged("a", 101.0)
    assert its.due(102.0) == []
    its.changed("a", 102.0)  # a person did something
    assert its.due(102.0) == ["a"]
    its.succeeded("a")
    assert its.failing == 0


def test_who_is_asked_to_wait_does() -> None:
    its = turns()
    its.began("a", 0.0)
    its.failed("a", 0.0, retry_after_s=30.0)
    assert its.next_s() == 36.0
    its.forget("a")
    its.failed("a", 0.0)
    assert its.next_s() == math.inf


def test_the_longest_waiting_is_first() -> None:
    its = turns()
    for at, key in enumerate("cab"):
        its.nudged(key, float(at))
    assert its.due(5.0) == ["c", "a", "b"]
    assert repr(its) == "Turns(objects=3, failing=0)"


def test_polls_are_spread_and_wait_longer_while_they_fail() -> None:
    assert PATIENCE.next_poll_s(0, Ones()) == 12.0
    assert [PATIENCE.next_poll_s(n, Ones()) for n in (1, 2, 3, 9)] == [1.0, 2.0, 4.0, 15.0]
    assert PATIENCE.next_poll_s(1, random.Random(1)) == 1.0  # never less than the gap


EVENTS = st.sampled_from(["changed", "nudged", "failed", "succeeded", "throttled"])


@settings(max_examples=examples(80), deadline=None)
@given(st.lists(st.tuples(EVENTS, st.floats(0, 3)), max_size=60), st.integers())
def test_two_looks_are_a_gap_apart_whatever_happens(
    events: list[tuple[str, float]], seed: int
) -> None:
    its: Turns[str] = Turns(PATIENCE, random.Random(seed))
    now, looks = 0.0, []
    for event, wait_s in events:
        now += wait_s
        if its.due(now):
            looks.append(now)
            its.began("a", now)
        match event:
            case "failed":
                its.failed("a", now)
            case "throttled":
                its.failed("a", now, retry_after_s=1.0)
            case "succeeded":
                its.succeeded("a")
            case _:
                getattr(its, event)("a", now)
    gaps = [b - a for a, b in itertools.pairwise(looks)]
    assert all(gap >= PATIENCE.gap_s - 1e-9 for gap in gaps)
