from hypothesis import given, settings
from hypothesis import strategies as st

from federation.artifacts.index import Spot
from federation.artifacts.marks import Marks

offsets = st.integers(0, 9).map(lambda n: n * 100)
spots = st.builds(lambda pack, at: Spot(pack, at, 100, 100, 0), st.integers(0, 2), offsets)


@settings(deadline=None, max_examples=50)
@given(st.lists(spots, max_size=200))
def test_a_place_counts_once_however_often_it_is_used(used: list[Spot]) -> None:
    marks = Marks()
    for spot in used:
        marks.add(spot)
    for pack in range(3):
        expected = {spot.offset for spot in used if spot.pack == pack}
        assert marks.offsets(pack) == expected
        assert marks.bytes_used(pack) == 100 * len(expected)


def test_many_versions_that_share_chunks_do_not_pile_up() -> None:
    marks = Marks()
    for _ in range(200):
        for n in range(60):
            marks.add(Spot(0, n << 20, 1 << 20, 1 << 20, 0))
    assert len(marks._used[0]) <= 4096
    assert marks.bytes_used(0) == 60 << 20
