import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.demo.load_stats import Outcome, grouped, percentile, summarize, within


def _outcome(due_s: float = 0.0, latency_s: float = 0.1, **more: object) -> Outcome:
    values = {"kind": "infer", "continent": "Europe", "region": "eu-west", **more}
    return Outcome(due_s=due_s, latency_s=latency_s, **values)  # type: ignore[arg-type]


def test_a_summary_counts_failures_and_takes_latencies_of_the_rest() -> None:
    outcomes = [_outcome(latency_s=i / 1000) for i in range(1, 101)]
    outcomes += [_outcome(latency_s=9, error="broken"), _outcome(latency_s=9, error="broken")]
    outcomes += [_outcome(latency_s=9, error="late"), _outcome(attempts=2), _outcome(sent=3)]
    summary = summarize(outcomes)
    assert (summary.requests, summary.failed) == (105, 3)
    assert summary.errors == {"broken": 2, "late": 1}
    assert (summary.failed_over, summary.sent_again) == (1, 1)
    assert summary.p50_ms == pytest.approx(51)
    assert summary.p99_ms == pytest.approx(100)
    assert summary.max_ms == pytest.approx(100)


def test_nothing_is_a_summary_too() -> None:
    assert summarize([]).requests == 0
    assert summarize([_outcome(error="x")]).p99_ms == 0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_of_the_values_and_bounds_its_share(
    values: list[float], share: float
) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in ordered
    assert sum(v <= found for v in ordered) >= share * len(ordered) - 1e-6


def test_groups_and_windows_take_what_belongs_to_them() -> None:
    outcomes = [_outcome(1.0), _outcome(2.0, region="us-east"), _outcome(3.0, region="")]
    assert list(grouped(outcomes, lambda o: o.region)) == ["eu-west", "none", "us-east"]
    assert [o.due_s for o in within(outcomes, 2.0, 3.0)] == [2.0]
