from hypothesis import given
from hypothesis import strategies as st

from router.policy.breaker import BreakerState
from router.policy.lanes import Lane
from router.policy.signals import Attempt, Ending, Signals, avoid, too_slow


def load(signals: Signals, now_s: float = 0.0) -> float:
    return signals.lane("a", "m", 1).in_flight(now_s)


def out(signals: Signals, now_s: float) -> str:
    return avoid(signals.lane("a", "m", 1), now_s)


def answer(
    signals: Signals, cluster: str, took_ms: float, now_s: float, *, failed: bool = False
) -> None:
    attempt = signals.begin(cluster, "m", 1, now_s)
    attempt.first_byte(took_ms, None, now_s + took_ms / 1000, failed=failed)
    attempt.end(Ending.ANSWERED, "", now_s + took_ms / 1000)


def sweep(signals: Signals, now_s: float) -> dict[str, str]:
    lanes = [signals.lane(cluster, "m", 1) for cluster in "abcd"]
    middle = sorted(lane.service.slow for lane in lanes)[1]
    for lane in lanes:
        lane.refresh(1.0, middle, now_s)
    signals.sweep(lanes, now_s)
    return {lane.place.name: why for lane in lanes if (why := avoid(lane, now_s))}


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.integers(0, 5),  # which of those under way
            st.sampled_from(["begin", "begin", "byte", "failed", "overloaded", "outrun", "end"]),
            st.sampled_from(Ending),
            st.floats(0, 5),
        ),
        max_size=60,
    )
)
def test_counts_return_to_zero_whatever_happens_to_requests(
    events: list[tuple[str, int, str, Ending, float]],
) -> None:
    """Also if ends are told twice, answers come after an end, breakers open and close in between,
    and a snapshot makes the cluster another one."""
    signals, open_, now_s = Signals(), 0, 0.0
    attempts: list[Attempt] = []
    lanes: set[Lane] = set()
    for cluster, which, what, ending, after_s in events:
        now_s += after_s
        if what == "begin" or not attempts:
            attempts.append(signals.begin(cluster, "m", 1, now_s))
            lanes.add(signals.lane(cluster, "m", 1))
            open_ += 1
            continue
        attempt = attempts[which % len(attempts)]
        if what == "overloaded":
            attempt.overloaded(now_s)
        elif what == "outrun":
            attempt.outrun(now_s)
        elif what == "end":
            open_ -= attempt._open
            attempt.end(ending, "tested", now_s)
        else:
            attempt.first_byte(1000 * after_s, which, now_s, failed=what == "failed")
        assert sum(lane.own for lane in lanes) == open_
        assert all(0 <= lane.awaiting <= lane.own for lane in lanes)
    for attempt in attempts:
        attempt.end(Ending.ABANDONED, "", now_s)
        attempt.end(Ending.ANSWERED, "", now_s)
    assert signals.in_flight("a") == signals.in_flight("b") == 0
    assert all(lane.awaiting == lane.own == lane.awaiting_sum_s == 0 for lane in lanes)
    assert not any(lane.breaker.trial_running for lane in lanes)
    assert not any(lane.place.breaker.trial_running for lane in lanes)


def test_load_of_other_routers_counts_and_fades() -> None:
    signals = Signals()
    mine, other = (signals.begin("a", "m", 1, 0.0) for _ in range(2))
    mine.first_byte(20.0, 7, 0.0)  # 7 there, 2 of them ours
    assert load(signals) == 7
    mine.end(Ending.ANSWERED, "", 0.0)
    assert load(signals) == 6
    assert load(signals, 3.0) == 6  # as on average, of which there is nothing else
    signals.lane("a", "m", 1).refresh(1.0, 0.0, 60.0)
    assert load(signals, 60.0) == 1
    other.end(Ending.ABANDONED, "", 60.0)
    assert load(signals, 60.0) == 0


def test_probes_bring_the_loads_of_all_lanes() -> None:
    signals = Signals()
    for version in (1, 2):
        signals.begin("a", "m", version, 0.0).end(Ending.ABANDONED, "", 0.0)
    signals.probed("a", 10.0, "", 1.0, {("m", 2): 5, ("other", 1): 9})
    assert [signals.lane("a", "m", v).in_flight(1.0) for v in (1, 2)] == [0.0, 5.0]


def test_the_way_is_not_counted_as_service() -> None:
    signals = Signals()
    signals.probed("a", 30.0, "", 0.0)
    signals.begin("a", "m", 1, 0.0).first_byte(50.0, None, 0.0)
    assert signals.lane("a", "m", 1).service_ms == 20.0
    assert signals.lane("a", "m", 2).service_ms == 0.0


def test_a_refusal_holds_back_one_version_for_a_moment_and_blames_no_cluster() -> None:
    signals = Signals()
    for _ in range(5):
        signals.begin("a", "m", 1, 0.0).end(Ending.REFUSED, "engine-down", 0.0)
    assert out(signals, 0.5) == ("it just refused this model version: engine-down")
    assert avoid(signals.lane("a", "m", 2), 0.5) == ""
    assert out(signals, 1.0) == ""
    signals.begin("a", "m", 1, 2.0).end(Ending.REFUSED, "saturated", 2.0)
    assert out(signals, 2.1) != ""
    assert out(signals, 2.2) == ""
    assert signals.health("a", 2.2)[0] is BreakerState.CLOSED


def test_failures_eject_and_a_trial_shows_when_it_is_over() -> None:
    signals = Signals()
    for _ in range(3):
        signals.begin("a", "m", 1, 0.0).end(Ending.UNREACHABLE, "refused", 0.0)
    assert out(signals, 0.5) == "ejected: refused"
    trial = signals.begin("a", "m", 1, 2.0)
    assert out(signals, 2.0) == "another request is trying it out"
    trial.first_byte(5.0, 1, 2.0)
    trial.end(Ending.BROKEN, "after the first byte", 2.0)  # already judged
    assert signals.health("a", 2.0)[0] is BreakerState.CLOSED
    assert out(signals, 2.0) == ""


def test_a_probe_tells_when_it_ejects() -> None:
    signals = Signals()
    told = [signals.probed("a", None, "silent", 0.0) for _ in range(3)]
    assert told == [False, True, False]
    assert repr(signals) == "Signals({'a': 'open'})"


def test_a_cluster_that_moved_starts_anew_and_one_that_stayed_is_remembered() -> None:
    signals = Signals()
    signals.retain({"a": "http://a", "b": "http://b"})
    flight = signals.begin("a", "m", 1, 0.0)
    for cluster in "ab":
        signals.probed(cluster, 10.0, "", 0.0)
    signals.retain({"a": "http://elsewhere", "b": "http://b"})
    assert signals.health("a", 0.0)[1] is None
    assert signals.health("b", 0.0)[1] == 10.0
    flight.end(Ending.ANSWERED, "", 0.0)
    assert signals.in_flight("a") == 0


def test_a_slow_lane_that_answers_200_is_ejected_and_tried_out() -> None:
    signals, now_s = Signals(), 0.0
    for i in range(20):
        now_s = i * 0.1
        for cluster in "abcd":
            answer(signals, cluster, 20.0 if cluster != "d" or i < 10 else 200.0, now_s)
    gone = sweep(signals, now_s)
    assert set(gone) == {"d"}
    assert gone["d"].startswith("ejected: slow: ")
    lane = signals.lane("d", "m", 1)
    now_s = lane.breaker.ends_s
    answer(signals, "d", 200.0, now_s)  # the trial: still slow
    assert avoid(lane, now_s + 0.5).startswith("ejected: slow: 200 ms")
    now_s = lane.breaker.ends_s
    answer(signals, "d", 20.0, now_s)
    assert avoid(lane, now_s) == ""
    assert now_s <= lane.back_at_s <= now_s + 1.0


def test_a_lane_that_fails_while_others_do_not_is_ejected() -> None:
    signals = Signals()
    for i in range(12):
        for cluster in "abcd":
            answer(signals, cluster, 20.0, i * 0.1, failed=cluster == "b" and i % 2 == 0)
    assert set(sweep(signals, 2.0)) == {"b"}


def test_a_lane_that_failed_half_of_the_time_is_let_in_after_several_good_trials() -> None:
    signals = Signals()
    for i in range(12):
        for cluster in "abcd":
            answer(signals, cluster, 20.0, i * 0.1, failed=cluster == "b" and i % 2 == 0)
    sweep(signals, 2.0)
    lane, now_s, trials = signals.lane("b", "m", 1), 2.0, 0
    now_s = lane.breaker.ends_s
    while lane.breaker.look(now_s) is not BreakerState.CLOSED:
        assert avoid(lane, now_s) == ""
        answer(signals, "b", 20.0, now_s)
        trials, now_s = trials + 1, now_s + 0.1
    assert 4 <= trials <= 8
    assert lane.errors == 0.0


def test_what_is_overdue_is_found() -> None:
    signals = Signals()
    for _ in range(3):
        answer(signals, "a", 400.0, 0.0)
    late = signals.begin("a", "m", 1, 1.0)
    signals.begin("b", "m", 1, 1.0)
    signals.lane("a", "m", 1).refresh(1.0, 400.0, 1.0)
    assert signals.overdue(0.3, 1.2) == []
    assert signals.overdue(0.3, 1.35) == ["b"]  # nothing is known of it
    assert signals.overdue(0.3, 2.0) == ["a", "b"]
    late.first_byte(1000.0, None, 2.0)
    assert signals.overdue(0.3, 2.0) == ["b"]


def test_what_fails_or_slows_everywhere_ejects_nobody_or_few() -> None:
    signals = Signals()
    for i in range(20):
        for cluster in "abcd":
            answer(signals, cluster, 20.0 if i < 10 else 300.0, i * 0.1, failed=i % 2 == 0)
    assert sweep(signals, 2.0) == {}


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 2000), st.booleans())))
def test_never_more_than_a_third_is_ejected_by_comparison(
    answers: list[tuple[str, float, bool]],
) -> None:
    signals = Signals()
    for i, (cluster, took_ms, failed) in enumerate(answers):
        answer(signals, cluster, took_ms, i * 0.1, failed=failed)
    assert len(sweep(signals, len(answers) * 0.1)) <= 1


def test_one_that_was_outrun_is_known_to_be_slow_and_not_blamed() -> None:
    signals = Signals()
    for i in range(10):
        answer(signals, "a", 20.0, float(i))
    lane = signals.lane("a", "m", 1)
    lane.refresh(1.0, 20.0, 10.0)
    before = lane.service.fast
    quick, slow = signals.begin("a", "m", 1, 10.0), signals.begin("a", "m", 1, 10.0)
    quick.outrun(10.01)
    quick.end(Ending.ABANDONED, "", 10.01)
    assert lane.service.fast == before  # it would have been answered in time
    slow.outrun(11.0)
    slow.end(Ending.ABANDONED, "", 11.0)
    slow.outrun(12.0)
    assert lane.service.fast > before
    assert (lane.errors, out(signals, 11.0)) == (0.0, "")


def test_a_trial_that_was_outrun_has_failed() -> None:
    signals = Signals()
    for _ in range(3):
        signals.begin("a", "m", 1, 0.0).end(Ending.BROKEN, "reset", 0.0)
    lane = signals.lane("a", "m", 1)
    assert lane.place.breaker.look(5.0) is BreakerState.HALF_OPEN
    trial = signals.begin("a", "m", 1, 5.0)
    trial.outrun(6.0)
    trial.end(Ending.ABANDONED, "", 6.0)
    assert lane.place.breaker.look(6.0) is BreakerState.OPEN
    assert signals.in_flight("a") == 0


def test_a_wrong_measurement_after_warm_up_ejects_nobody_who_is_as_fast_as_the_others() -> None:
    lane = Signals().lane("eu", "m", 1)
    lane.declare(2.0, 5.0, 0.0)  # it is 100 ms, as everywhere
    lane.refresh(1.0, 100.0, 0.0)
    assert not too_slow(103.0, lane)
    assert too_slow(1000.0, lane)
