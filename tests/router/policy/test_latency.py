import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.types import Location
from router.policy.latency import (
    PRIOR_UNKNOWN_MS,
    Ewma,
    RoundTrip,
    ServiceTime,
    great_circle_km,
    prior_ms,
)

AMSTERDAM = Location(latitude=52.37, longitude=4.90)
VIRGINIA = Location(latitude=38.95, longitude=-77.45)
PLACES = st.builds(Location, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180))
SAMPLES = st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 5)), min_size=1)


@given(SAMPLES)
def test_an_average_stays_between_what_was_seen(samples: list[tuple[float, float]]) -> None:
    average, now_s = Ewma(tau_s=2.0), 0.0
    for value, gap_s in samples:
        now_s += gap_s
        average.observe(value, now_s)
    values = [value for value, _ in samples]
    assert min(values) - 1e-6 <= average.value <= max(values) + 1e-6


def test_the_round_trip_is_the_least_of_the_last_five() -> None:
    rtt = RoundTrip()
    assert rtt.ms is None
    for sample in (5.0, 9.0, 8.0, 7.0, 9.0):
        rtt.observe(sample)
    assert rtt.ms == 5.0
    rtt.observe(9.0)  # the route got longer: the old minimum is forgotten
    assert rtt.ms == 7.0


def test_trouble_shows_at_once_and_is_forgiven_slowly() -> None:
    service = ServiceTime()
    assert service.expected_ms(0.0) == 0.0
    for i in range(100):
        service.observe(10.0, 1, i * 0.1)
    assert service.expected_ms(10.0) == pytest.approx(10.0)
    for i in range(10):
        service.observe(100.0, 1, 10.0 + i * 0.1)
    assert service.expected_ms(11.0) > 50.0
    for i in range(10):
        service.observe(10.0, 1, 11.0 + i * 0.1)
    assert service.expected_ms(12.0) > 12.0
    assert service.expected_ms(60.0) < 0.1  # no news: tried again


def test_an_engine_that_works_on_many_at_once_is_not_slow() -> None:
    service = ServiceTime()
    for i in range(50):
        service.observe(100.0, 20, i * 0.1)
    assert service.expected_ms(5.0) == pytest.approx(5.0)


@given(PLACES, PLACES)
def test_distances_are_symmetric_and_bounded(a: Location, b: Location) -> None:
    assert great_circle_km(a, b) == pytest.approx(great_circle_km(b, a), abs=1e-6)
    assert 0 <= great_circle_km(a, b) <= 20_016
    assert great_circle_km(a, a) == pytest.approx(0.0, abs=1e-3)


def test_the_guess_before_the_first_measurement() -> None:
    assert great_circle_km(AMSTERDAM, VIRGINIA) == pytest.approx(6200, rel=0.02)
    assert prior_ms(AMSTERDAM, VIRGINIA) == pytest.approx(119, rel=0.02)
    assert prior_ms(None, VIRGINIA) == prior_ms(VIRGINIA, None) == PRIOR_UNKNOWN_MS
