from prometheus_client import CollectorRegistry, Histogram, generate_latest

from router.metrics.durations import Durations

BOUNDS = (0.1, 1.0, 10.0)


def test_it_counts_like_prometheus_own_histogram() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Durations("took_seconds", "Time.", BOUNDS, label="model")
    ours.register(mine)
    own = Histogram("took_seconds", "Time.", ("model",), buckets=BOUNDS, registry=theirs)
    for value in (0.05, 0.1, 0.11, 5.0, 100.0):
        mine.observe(value, "m")
        own.labels("m").observe(value)
    told = {
        line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line
    }
    assert set(generate_latest(ours).decode().splitlines()) == told
    assert repr(mine) == "Durations(took_seconds, 5 observed)"


def test_without_a_label_it_is_there_from_the_start() -> None:
    registry = CollectorRegistry()
    registry.register(Durations("took_seconds", "Time.", BOUNDS))
    assert registry.get_sample_value("took_seconds_count") == 0.0
    assert registry.get_sample_value("took_seconds_bucket", {"le": "+Inf"}) == 0.0
