"""Counting over bitmaps is counting one by one."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.swarm_counts import Counts, first

HOLDERS = st.lists(st.integers(0, 2**12 - 1), max_size=20)


@given(HOLDERS, st.integers(1, 2**12 - 1))
def test_counts_and_the_rarest_are_those_of_one_by_one(holders: list[int], pieces: int) -> None:
    counts = Counts(holders)
    one_by_one = [sum(bits >> piece & 1 for bits in holders) for piece in range(12)]
    assert [counts.count(piece) for piece in range(12)] == one_by_one
    least = min(one_by_one[p] for p in range(12) if pieces >> p & 1)
    rarest = {p for p in range(12) if pieces >> p & 1 and one_by_one[p] == least}
    assert {p for p in range(12) if counts.rarest(pieces) >> p & 1} == rarest
    assert counts.common == sum(1 << p for p in range(12) if one_by_one[p] > 1)


@given(st.integers(0, 2**12 - 1), st.integers(0, 12))
def test_the_first_few(bits: int, most: int) -> None:
    assert [*first(bits, most)] == [n for n in range(12) if bits >> n & 1][:most]
