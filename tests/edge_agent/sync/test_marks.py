"""What is missing, each digest once."""

from edge_agent.policy.pieces import pieces_of
from edge_agent.sync.contents import Contents
from edge_agent.sync.marks import Marks
from tests.edge_agent.sync.packages import CHUNK, Package

FILES = {"a": b"1" * CHUNK + b"2" * CHUNK, "b": b"2" * CHUNK + b"3" * 7, "c": b""}


def test_each_digest_is_needed_once_and_where_it_is_missing() -> None:
    manifest = Package(FILES).manifest
    marks = Marks(Contents(manifest.files), pieces_of(manifest))
    assert (marks.needed(0), marks.needed(1)) == ((0, 1), (3,))
    assert marks.mark([0, 1, 1]) == 2 * CHUNK
    assert (marks.holds(0), marks.holds(1), marks.bitmap()) == (True, False, b"\x01")
    assert marks.needed(1) == (2, 3)  # a write to the second place failed
    assert list(marks.missing_places(1)) == [2]
    assert marks.mark([2, 3]) == CHUNK + 7
    assert (marks.lacking, marks.present_bytes, marks.bitmap()) == (0, 3 * CHUNK + 7, b"\x03")
    assert marks.whole(1)
    assert marks.whole(2)
    marks.forget(0)
    assert (marks.lacking, marks.present_bytes) == (2, CHUNK + 7)
    assert marks.is_missing(0)
    assert not marks.whole(0)
    assert marks.needed(0) == (0, 1)
    assert not marks.holds(7)
