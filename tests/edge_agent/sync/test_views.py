"""Pieces of a published package: hashed before the first byte is given away."""

from pathlib import Path

import pytest

from edge_agent.sync.shelf import Shelf
from edge_agent.sync.views import PublishedReader, bits, slice_of
from federation.contract.errors import NotFound
from tests.edge_agent.sync.packages import CHUNK, Package

PACKAGE = Package({"a": b"1" * CHUNK + b"2" * 9, "b": b"3"})


def test_bits_are_in_order() -> None:
    assert bits(9, lambda n: n in (0, 3, 8)) == b"\x09\x01"
    assert bits(0, lambda n: True) == b""


def test_a_part_must_lie_in_its_piece(tmp_path: Path) -> None:
    reader = PublishedReader(PACKAGE.fetch(Shelf(tmp_path)), PACKAGE.manifest, verified=False)
    piece = reader.pieces[1]
    assert slice_of(piece, 0, 1) == (0, 1)
    for skip, length in ((-1, 1), (0, 2), (1, 1), (0, -1)):
        with pytest.raises(NotFound):
            reader.read(1, skip, length)
    assert reader.read(0, CHUNK - 1, 3) == b"122"
    assert reader.read(1, 0, 1) == b"3"
    for number in (-1, 2):
        with pytest.raises(NotFound):
            reader.read(number, 0, 1)


@pytest.mark.parametrize("damage", ["flipped", "cut", "link", "gone"])
def test_damage_is_not_given_away(tmp_path: Path, damage: str) -> None:
    path = PACKAGE.fetch(Shelf(tmp_path))
    reader = PublishedReader(path, PACKAGE.manifest, verified=False)
    (path / "b").unlink()
    match damage:
        case "flipped":
            (path / "b").write_bytes(b"4")
        case "cut":
            (path / "b").write_bytes(b"")
        case "link":
            (tmp_path / "outside").write_bytes(b"3")
            (path / "b").symlink_to(tmp_path / "outside")
        case _:
            pass
    with pytest.raises(NotFound):
        reader.read(1, 0, 1)
