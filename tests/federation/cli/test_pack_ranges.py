"""Which chunks are asked for at once; the fetch itself is tested by pulls (test_pull.py)."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from federation.cli.pack_ranges import RANGE_BYTES, runs_of
from federation.contract.locations import Place

MIB = 1 << 20


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 9 * MIB), st.booleans(), st.integers(1, 20)),
        max_size=20,
    )
)
def test_runs_are_adjacent_and_small_once_they_are_decoded(
    raw: list[tuple[int, int, bool, int]],
) -> None:
    placed, lengths, at = [], {}, 0
    for number, (pack, stored, gap, ratio) in enumerate(sorted(raw)):
        at += stored * gap
        digest = bytes([number]) * 32
        placed.append((Place(pack, at, stored), digest))
        lengths[digest] = min(stored * ratio, 16 * MIB)
        at += stored
    runs = list(runs_of(placed, lengths))
    assert [one for run in runs for one in run] == placed
    for run in runs:
        assert len(run) == 1 or sum(lengths[digest] for _, digest in run) <= RANGE_BYTES
        assert len({place.pack for place, _ in run}) == 1
        for (before, _), (after, _) in pairwise(run):
            assert after.offset == before.offset + before.stored


def test_neighbours_come_together() -> None:
    one, two, three = b"1" * 32, b"2" * 32, b"3" * 32
    placed = [(Place(0, 0, 5), one), (Place(0, 5, 5), two), (Place(0, 11, 5), three)]
    assert [len(run) for run in runs_of(placed, {one: 5, two: 5, three: 5})] == [2, 1]
