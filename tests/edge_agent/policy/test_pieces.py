from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.pieces import PIECE_BYTES, pieces_of
from federation.contract.manifest import MAX_CHUNK_BYTES, Chunk, pack_chunks
from federation.contract.types import FileEntry, Manifest

lengths = st.lists(st.lists(st.integers(1, MAX_CHUNK_BYTES), max_size=12), max_size=5)


@given(lengths)
def test_pieces_tile_every_file_in_whole_chunks(files: list[list[int]]) -> None:
    entries = tuple(
        FileEntry(
            path=f"{number}",
            size=sum(sizes),
            blake3="0" * 64,
            sha256="0" * 64,
            chunks=pack_chunks(Chunk(bytes(32), size) for size in sizes),
        )
        for number, sizes in enumerate(files)
    )
    pieces = pieces_of(Manifest(model="m", files=entries))
    assert [piece.number for piece in pieces] == list(range(len(pieces)))
    flat = [size for sizes in files for size in sizes]
    first = 0
    for number, sizes in enumerate(files):
        offset = 0
        for piece in (p for p in pieces if p.file == number):
            assert (piece.offset, piece.first) == (offset, first)
            assert piece.length == sum(flat[first : first + piece.count])
            assert piece.length <= PIECE_BYTES or piece.count == 1
            offset, first = offset + piece.length, first + piece.count
        assert offset == sum(sizes)
    assert first == len(flat)
