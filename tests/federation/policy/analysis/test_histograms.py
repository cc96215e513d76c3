"""Histograms merge exactly and tell percentiles to 5 %."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.policy.analysis.histograms import (
    LEAST,
    MOST,
    index_of,
    merged,
    quantile,
    share_slower,
)


@given(st.floats(1e-6, 1e8))
@settings(max_examples=50, deadline=None)
def test_an_index_holds_its_latency(ms: float) -> None:
    i = index_of(ms)
    assert 2 ** (i / 16) * (1 - 1e-9) <= ms <= 2 ** ((i + 1) / 16) * (1 + 1e-9)


def test_what_cannot_be_is_counted_at_the_ends() -> None:
    assert index_of(0.0) == LEAST
    assert index_of(-1.0) == LEAST
    assert index_of(1e30) == MOST


def test_parts_merge_to_the_whole_and_percentiles_hold() -> None:
    rng = random.Random(5)
    values = [50 * math.exp(rng.gauss(0, 0.5)) for _ in range(5000)]
    whole: dict[int, int] = {}
    parts: list[dict[int, int]] = [{}, {}, {}]
    for i, ms in enumerate(values):
        for counts in (whole, parts[i % 3]):
            counts[index_of(ms)] = counts.get(index_of(ms), 0) + 1
    assert merged(*parts) == whole
    exact = sorted(values)[4750]
    found = quantile(whole, 0.95)
    assert found is not None
    assert found == pytest.approx(exact, rel=0.05)
    assert share_slower(whole, found) == pytest.approx(0.05, abs=1e-9)


def test_nothing_has_no_percentile_and_no_slow_share() -> None:
    assert quantile({}, 0.95) is None
    assert quantile({7: 0}, 0.95) is None
    assert share_slower({}, 100.0) == 0.0


def test_shares_end_at_the_ends() -> None:
    assert share_slower({10: 4, 12: 4}, 2 ** (30 / 16)) == 0
    assert share_slower({10: 4, 12: 4}, 2 ** (1 / 16)) == 1
    assert share_slower({10: 4, 12: 4}, 2 ** (11.5 / 16)) == 0.5
