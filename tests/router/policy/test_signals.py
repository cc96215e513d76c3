from hypothesis import given
from hypothesis import strategies as st

from router.policy.breaker import BreakerState
from router.policy.signals import Ending, Signals, avoid


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


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(Ending), st.booleans())))
def test_counts_return_to_zero_however_requests_end(
    flights: list[tuple[str, Ending, bool]],
) -> None:
    signals = Signals()
    open_flights = [(signals.begin(c, "m", 1, 0.0), e, twice) for c, e, twice in flights]
    assert signals.in_flight("a") + signals.in_flight("b") == len(flights)
    for attempt, ending, twice in open_flights:
        for _ in range(1 + twice):
            attempt.end(ending, "tested", 1.0)
    assert signals.in_flight("a") == signals.in_flight("b") == 0


def test_load_of_other_routers_counts_and_fades() -> None:
    signals = Signals()
    mine, other = (signals.begin("a", "m", 1, 0.0) for _ in range(2))
    mine.first_byte(20.0, 7, 0.0)  # 7 there, 2 of them ours
    assert load(signals) == 7
    mine.end(Ending.ANSWERED, "", 0.0)
    assert load(signals) == 6
    assert load(signals, 3.0) == 3.5
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
