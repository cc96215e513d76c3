"""The wait grows, is capped, and never vanishes."""

import random

from hypothesis import given
from hypothesis import strategies as st

from federation.runtime.backoff import Backoff


@given(st.integers(0, 10_000), st.integers())
def test_bounds(failures: int, seed: int) -> None:
    backoff = Backoff(first_s=0.2, cap_s=10)
    delay_s = backoff.delay_s(failures, random.Random(seed))
    ceiling = min(10, 0.2 * 2 ** min(max(failures - 1, 0), 30))
    assert 0.25 * ceiling <= delay_s <= ceiling


def test_it_doubles() -> None:
    class Half:
        def random(self) -> float:
            return 0.5

    first, second = (Backoff(first_s=1, cap_s=100).delay_s(n, Half()) for n in (1, 2))
    assert second == 2 * first
