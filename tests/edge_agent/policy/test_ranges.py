"""Runs cover every chunk once, have no gaps, and keep to their limit."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.ranges import Part, check_part, runs_of
from federation.contract.errors import Invalid
from federation.contract.locations import Place


def part(number: int, place: Place, length: int | None = None, base: bytes = b"") -> Part:
    return Part(number, bytes(32), place.stored if length is None else length, place, base)


@st.composite
def layouts(draw: st.DrawFn) -> list[Part]:
    parts, number = [], 0
    for pack in range(draw(st.integers(1, 3))):
        offset = 0
        for stored in draw(st.lists(st.integers(1, 300), max_size=20)):
            if draw(st.booleans()):
                parts.append(part(number, Place(pack, offset, stored)))
            number, offset = number + 1, offset + stored
    return draw(st.permutations(parts))


@given(layouts(), st.integers(1, 1000))
def test_runs_are_exactly_the_parts(parts: list[Part], limit: int) -> None:
    runs = runs_of(parts, limit)
    assert Counter(p.number for run in runs for p in run) == Counter(p.number for p in parts)
    for run in runs:
        assert len({p.place.pack for p in run}) == 1
        assert all(a.end == b.place.offset for a, b in pairwise(run))
        assert len(run) == 1 or sum(p.place.stored for p in run) <= limit


@given(layouts())
def test_without_a_limit_a_run_ends_only_at_a_gap(parts: list[Part]) -> None:
    runs = runs_of(parts, 1 << 40)
    ends = {(run[-1].place.pack, run[-1].end) for run in runs}
    assert not ends & {(run[0].place.pack, run[0].place.offset) for run in runs}


def test_two_chunks_at_one_place_are_two_runs() -> None:
    twice = [part(0, Place(0, 0, 10)), part(1, Place(0, 0, 10))]
    assert [len(run) for run in runs_of(twice, 100)] == [1, 1]


@pytest.mark.parametrize(
    ("place", "length", "base"),
    [
        (Place(0, 0, 11), 10, b""),  # raw, of another length
        (Place(0, 0, 9), 10, b""),
        (Place(0, 0, 11, 1), 10, b""),  # encoded, and longer than the chunk
        (Place(0, 0, 0, 1), 10, b""),
        (Place(0, 0, 5, 0x82), 10, b""),  # needs a base
        (Place(0, 0, 10, 0), 10, bytes(32)),  # has one that it does not need
    ],
)
def test_places_that_cannot_be_are_refused(place: Place, length: int, base: bytes) -> None:
    with pytest.raises(Invalid, match="cannot be"):
        check_part(part(0, place, length, base))


def test_places_that_can_be_are_not() -> None:
    for place, base in (
        (Place(0, 0, 10), b""),
        (Place(0, 0, 9, 2), b""),
        (Place(0, 0, 1, 0x84), b"b"),
    ):
        assert check_part(part(0, place, 10, base)).place is place
