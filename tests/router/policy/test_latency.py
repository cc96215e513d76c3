import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.types import Location
from router.policy.latency import (
    PRIOR_UNKNOWN_MS,
    Average,
    RoundTrip,
    great_circle_km,
    prior_ms,
)

AMSTERDAM = Location(latitude=52.37, longitude=4.90)
VIRGINIA = Location(latitude=38.95, longitude=-77.45)
PLACES = st.builds(Location, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180))
SAMPLES = st.lists(st.floats(0, 1000), min_size=1)


@given(SAMPLES, st.floats(0, 1000))
def test_an_average_stays_between_what_was_seen_and_believed(
    samples: list[float], prior: float
) -> None:
    average = Average()
    for i, value in enumerate(samples):
        average.observe(value, float(i))
    now_s = float(len(samples))
    for value in (average.fast, average.slow):
        assert min(samples) - 1e-6 <= value <= max(samples) + 1e-6
    low, high = min(*samples, prior), max(*samples, prior)
    assert low - 1e-6 <= average.expected(prior, now_s) <= high + 1e-6
    assert low - 1e-6 <= average.expected(prior, now_s + 60.0) <= high + 1e-6


def test_the_round_trip_is_the_least_of_the_last_five_once_it_is_more_than_noise() -> None:
    rtt = RoundTrip()
    assert rtt.ms is None
    rtt.observe(50.0)
    for sample in (58.0, 59.0, 57.0, 59.0, 58.0, 57.0):
        rtt.observe(sample)
    assert rtt.ms == pytest.approx(50.0, abs=1.0)  # noise
    for sample in (90.0, 95.0, 91.0, 92.0, 90.0):  # the route got longer
        rtt.observe(sample)
    assert rtt.ms == 90.0
    rtt.observe(30.0)  # a shorter way shows with the first probe
    assert rtt.ms == 30.0


@given(st.lists(st.floats(20, 29), min_size=1))
def test_noise_below_ten_milliseconds_makes_no_jumps(samples: list[float]) -> None:
    rtt, before = RoundTrip(), samples[0]
    for sample in samples:
        rtt.observe(sample)
        assert rtt.ms is not None
        assert abs(rtt.ms - before) <= 0.5
        before = rtt.ms


def test_trouble_shows_soon_and_no_news_is_forgotten() -> None:
    service = Average()
    assert service.expected(7.0, 0.0) == 7.0
    for i in range(100):
        service.observe(12.0 if i % 2 else 9.0, i * 0.1)
    assert service.expected(20.0, 10.0) == pytest.approx(10.5, rel=0.1)
    for i in range(8):
        service.observe(100.0, 10.0 + i * 0.1)
    assert service.expected(10.0, 11.0) > 50.0
    assert service.expected(10.0, 60.0) == pytest.approx(10.0, abs=0.5)
    service.forget()
    assert service.expected(3.0, 60.0) == 3.0


def test_one_very_long_answer_is_not_trouble() -> None:
    service = Average()
    for i in range(50):
        service.observe(10.0, i * 0.1)
    service.observe(100_000.0, 5.0)
    assert service.expected(10.0, 5.0) < 25.0
    assert service.unevenness >= 1.0


@given(PLACES, PLACES)
def test_distances_are_symmetric_and_bounded(a: Location, b: Location) -> None:
    assert great_circle_km(a, b) == pytest.approx(great_circle_km(b, a), abs=1e-6)
    assert 0 <= great_circle_km(a, b) <= 20_016
    assert great_circle_km(a, a) == pytest.approx(0.0, abs=1e-3)


def test_the_guess_before_the_first_measurement() -> None:
    assert great_circle_km(AMSTERDAM, VIRGINIA) == pytest.approx(6200, rel=0.02)
    assert prior_ms(AMSTERDAM, VIRGINIA) == pytest.approx(119, rel=0.02)
    assert prior_ms(None, VIRGINIA) == prior_ms(VIRGINIA, None) == PRIOR_UNKNOWN_MS


@given(SAMPLES, st.floats(0, 1000))
def test_an_observation_tells_what_is_expected_at_its_moment(
    samples: list[float], prior: float
) -> None:
    average = Average()
    for i, value in enumerate(samples):
        assert average.observe(value, float(i)) == average.expected(prior, float(i))
