"""List, watch, and patience: a table of outcomes, hours of virtual time, servers gone mad."""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.contract.errors import InvalidTransition
from federation.kube.watching import (
    TRANSITIONS,
    List,
    Watch,
    Watching,
    WatchPatience,
    WatchState,
    WatchStep,
)


class Half:
    """A dice that always shows one half."""

    def random(self) -> float:
        return 0.5


def fresh() -> Watching:
    return Watching("pods", dice=Half())


def watching(now: float = 0.0, version: str = "7") -> Watching:
    """One that has listed and watches, since `now`."""
    machine = fresh()
    machine.ask(now)
    machine.listed(version, now)
    machine.ask(now)
    return machine


def test_a_list_and_then_a_watch_from_its_version() -> None:
    machine = fresh()
    assert (machine.state, machine.settled) == (WatchState.UNLISTED, False)
    assert machine.ask(10.0) == List()
    machine.listed("42", 12.0)
    assert (machine.next_s, machine.proven_s) == (12.0, 10.0)  # true of the time it was asked for
    command = machine.ask(12.0)
    assert isinstance(command, Watch)
    assert command.version == "42"
    assert 20.0 <= command.timeout_s <= 30.0
    assert machine.settled
    assert repr(machine) == "Watching(pods: watching, failures=0)"


def test_events_and_bookmarks_prove_the_picture_and_move_the_version() -> None:
    machine = watching()
    machine.heard("9", 5.0)
    assert machine.proven_s == 5.0
    machine.heard("", 6.0)  # an object without a version
    machine.ended(20.0)
    assert (machine.proven_s, machine.next_s) == (20.0, 20.0)
    command = machine.ask(20.0)
    assert isinstance(command, Watch)
    assert command.version == "9"


def test_a_broken_watch_goes_on_from_its_last_version_and_the_picture_ages() -> None:
    machine = watching()
    machine.heard("9", 5.0)
    machine.broken("the cable", 8.0)
    assert (machine.reason, machine.proven_s, machine.settled) == ("the cable", 5.0, True)
    assert machine.next_s >= 9.0
    assert machine.ask(machine.next_s) == Watch("9", pytest.approx(25.0))  # type: ignore[arg-type]
    machine.heard("10", 12.0)
    assert (machine.reason, machine.proven_s) == ("", 12.0)


def test_a_forgotten_version_means_a_new_list() -> None:
    machine = watching()
    machine.expired(3.0)
    assert machine.state is WatchState.UNLISTED
    assert machine.next_s >= 4.0
    assert machine.ask(5.0) == List()
    machine.listed("100", 5.5)
    assert machine.next_s == 6.5  # disturbed: the watch waits as well
    assert "no longer knows" in machine.reason  # until the watch tells something


def test_a_refusal_is_asked_again_after_a_minute() -> None:
    machine = fresh()
    machine.ask(0.0)
    machine.refused("may not", 1.0)
    assert (machine.settled, machine.shown, machine.reason) == (True, False, "may not")
    assert 61.0 <= machine.next_s <= 121.0
    assert machine.ask(machine.next_s) == List()
    assert machine.shown


def test_retry_after_is_obeyed_and_spread() -> None:
    machine = watching()
    machine.broken("too many requests", 1.0, retry_after_s=30.0)
    assert 31.0 <= machine.next_s <= 37.0


def test_a_server_that_ends_watches_at_once_is_not_hurried() -> None:
    machine = watching()
    gaps = []
    for _ in range(8):
        now = machine._asked_s
        machine.ended(now)
        gaps.append(machine.next_s - now)
        machine.ask(machine.next_s)
    assert gaps == sorted(gaps)
    assert gaps[0] >= 1.0
    assert gaps[-1] >= 5.0
    assert "at once" in machine.reason


def test_outcomes_that_cannot_be() -> None:
    machine = fresh()
    with pytest.raises(InvalidTransition, match="pods is unlisted"):
        machine.listed("1", 0.0)
    with pytest.raises(InvalidTransition, match="heard"):
        machine.heard("1", 0.0)
    assert {state for state, _ in TRANSITIONS} == set(WatchState)
    assert {step for _, step in TRANSITIONS} == set(WatchStep)


# ---------------------------------------------------------------- virtual time

Answer = Callable[[Watching, List | Watch, float], float]


def live(machine: Watching, answer: Answer, *, start: float, until: float) -> list[float]:
    """Let time pass; `answer` performs each request and returns when it was over."""
    now, asked = start, list[float]()
    while True:
        now = max(now, machine.next_s)
        if now >= until:
            return asked
        asked.append(now)
        now = answer(machine, machine.ask(now), now)


def healthy(machine: Watching, command: List | Watch, now: float) -> float:
    if isinstance(command, List):
        machine.listed("1", now + 0.1)
        return now + 0.1
    machine.ended(now + command.timeout_s)
    return now + command.timeout_s


def refusing(machine: Watching, command: List | Watch, now: float) -> float:
    machine.broken("connection refused", now)
    return now


def throttling(machine: Watching, command: List | Watch, now: float) -> float:
    machine.broken("too many requests", now, retry_after_s=1.0)
    return now


def forgetting(machine: Watching, command: List | Watch, now: float) -> float:
    if isinstance(command, List):
        machine.listed("1", now)
    else:
        machine.expired(now)
    return now


def cutting(machine: Watching, command: List | Watch, now: float) -> float:
    """Tells something, and breaks off: each time as if all was well again."""
    if isinstance(command, List):
        machine.listed("1", now)
    else:
        machine.heard("2", now)
        machine.broken("the connection broke", now)
    return now


def per_second(asked: list[float]) -> int:
    """The most requests that began within one second."""
    return max((sum(t <= other < t + 0.999 for other in asked) for t in asked), default=0)


@pytest.mark.parametrize("server", [refusing, throttling, forgetting, cutting])
@pytest.mark.parametrize("seed", range(5))
def test_no_server_makes_it_a_busy_loop(server: Answer, seed: int) -> None:
    machine = Watching("pods", dice=random.Random(seed))
    asked = live(machine, healthy, start=0.0, until=100.0)
    asked += (hurt := live(machine, server, start=100.0, until=400.0))
    assert len(hurt) <= 301
    assert per_second(hurt[2:]) <= 1
    assert per_second(asked) <= 2  # the first list and its watch
    after = live(machine, healthy, start=400.0, until=460.0)
    assert machine.reason == ""
    assert after[0] - 400.0 <= 15.0


@pytest.mark.parametrize("seed", range(20))
def test_thirty_seconds_without_a_server(seed: int) -> None:
    machine = Watching("pods", dice=random.Random(seed))
    live(machine, healthy, start=0.0, until=60.0)
    proven = machine.proven_s
    asked = live(machine, refusing, start=60.0, until=90.0)
    assert 3 <= len(asked) <= 20
    assert machine.proven_s == proven  # what is shown is as old as it is
    assert machine.reason == "connection refused"
    live(machine, healthy, start=90.0, until=150.0)
    assert machine.reason == ""
    assert machine.proven_s is not None
    assert machine.proven_s >= 90.0


OUTCOMES = st.lists(
    st.tuples(st.sampled_from(list("lheebxr")), st.floats(0.0, 40.0), st.floats(0.0, 3.0)),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(outcomes=OUTCOMES, seed=st.integers(0, 2**16))
def test_requests_keep_their_distance_whatever_happens(
    outcomes: list[tuple[str, float, float]], seed: int
) -> None:
    machine = Watching("pods", dice=random.Random(seed), patience=WatchPatience())
    now, asked, command = 0.0, list[tuple[float, bool]](), None
    for kind, took, retry in outcomes:
        now = max(now, machine.next_s)
        after_list = isinstance(command, List) and machine._failures == 0
        command = machine.ask(now)
        asked.append((now, after_list and isinstance(command, Watch)))
        now += took
        if kind == "r":
            machine.refused("no", now)
        elif kind == "x":
            machine.expired(now)
        elif kind == "b":
            machine.broken("no", now, retry_after_s=retry)
        elif isinstance(command, List):
            machine.listed("5", now)
        else:
            if kind == "h":
                machine.heard("6", now)
            machine.ended(now)
        assert machine.proven_s is None or machine.proven_s <= now
    for (first, _), (second, follows_list) in pairwise(asked):
        assert follows_list or second - first >= 0.999
