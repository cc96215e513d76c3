from hypothesis import given
from hypothesis import strategies as st

from router.policy.breaker import BreakerState
from router.policy.signals import Ending, Signals


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
    assert signals.look("a", "m", 1, 0.0).in_flight == 7
    mine.end(Ending.ANSWERED, "", 0.0)
    assert signals.look("a", "m", 1, 0.0).in_flight == 6
    assert signals.look("a", "m", 1, 1.0).in_flight == 3.5
    assert signals.look("a", "m", 1, 60.0).in_flight == 1
    other.end(Ending.ABANDONED, "", 60.0)
    assert signals.look("a", "m", 1, 60.0).in_flight == 0


def test_the_way_is_not_counted_as_service() -> None:
    signals = Signals()
    signals.probed("a", 30.0, "", 0.0)
    signals.begin("a", "m", 1, 0.0).first_byte(50.0, None, 0.0)
    seen = signals.look("a", "m", 1, 0.0)
    assert (seen.rtt_ms, seen.service_ms) == (30.0, 20.0)
    assert signals.look("a", "m", 2, 0.0).service_ms == 0.0


def test_a_refusal_holds_back_one_version_for_a_moment_and_blames_no_cluster() -> None:
    signals = Signals()
    for _ in range(5):
        signals.begin("a", "m", 1, 0.0).end(Ending.REFUSED, "engine-down", 0.0)
    assert signals.look("a", "m", 1, 0.5).avoid == (
        "it just refused this model version: engine-down"
    )
    assert signals.look("a", "m", 2, 0.5).avoid == ""
    assert signals.look("a", "m", 1, 1.0).avoid == ""
    signals.begin("a", "m", 1, 2.0).end(Ending.REFUSED, "saturated", 2.0)
    assert signals.look("a", "m", 1, 2.1).avoid != ""
    assert signals.look("a", "m", 1, 2.2).avoid == ""
    assert signals.health("a", 2.2)[0] is BreakerState.CLOSED


def test_failures_eject_and_a_trial_shows_when_it_is_over() -> None:
    signals = Signals()
    for _ in range(3):
        signals.begin("a", "m", 1, 0.0).end(Ending.UNREACHABLE, "refused", 0.0)
    assert signals.look("a", "m", 1, 0.5).avoid == "ejected: refused"
    trial = signals.begin("a", "m", 1, 1.0)
    assert signals.look("a", "m", 1, 1.0).avoid == "another request is trying it out"
    trial.first_byte(5.0, 1, 1.0)
    trial.end(Ending.BROKEN, "after the first byte", 1.0)  # already judged
    assert signals.look("a", "m", 1, 1.0).state is BreakerState.CLOSED


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
