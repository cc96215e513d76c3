"""Chunks by number and by digest."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sync.contents import Contents
from federation.contract.manifest import Chunk, pack_chunks
from federation.contract.types import FileEntry

_CHUNKS = st.builds(Chunk, st.integers(0, 5).map(lambda n: bytes([n]) * 32), st.integers(1, 3))


@given(st.lists(st.lists(_CHUNKS, max_size=6), max_size=5))
def test_numbers_places_and_repeats_agree_with_the_manifest(files: list[list[Chunk]]) -> None:
    entries = [
        FileEntry(path=f"{n}", size=0, blake3="", sha256="", chunks=pack_chunks(chunks))
        for n, chunks in enumerate(files)
    ]
    contents, flat = Contents(entries), [c for chunks in files for c in chunks]
    assert len(contents) == len(flat)
    number = 0
    for file, chunks in enumerate(files):
        assert list(contents.chunks_in(file)) == list(range(number, number + len(chunks)))
        offset = 0
        for chunk in chunks:
            assert contents.chunk(number) == chunk
            assert contents.place(number) == (file, offset)
            same = tuple(n for n, other in enumerate(flat) if other == chunk)
            assert contents.same(number) == same
            assert contents.find(contents.record(number)) == same[0]
            found = contents.find(chunk.digest)
            assert found is not None
            assert flat[found].digest == chunk.digest
            number, offset = number + 1, offset + chunk.length
    assert contents.find(bytes([9]) * 32) is None
    once = Contents(entries, repeats=False)
    assert [once.find(once.record(n)) for n in range(len(flat))] == [
        flat.index(chunk) for chunk in flat
    ]


def test_a_large_package_needs_little_memory() -> None:
    count = 140_000
    chunks = b"".join(
        n.to_bytes(32, "little") + (1 << 20).to_bytes(4, "little") for n in range(count)
    )
    entry = FileEntry(path="x", size=count << 20, blake3="", sha256="", chunks=chunks)
    contents = Contents([entry])
    held = sum(
        part.itemsize * len(part) for part in (contents._table, contents._offsets, contents._firsts)
    )
    assert held < 32 * count
    assert contents.find(contents.record(count - 1)) == count - 1
    assert contents.place(count - 1) == (0, (count - 1) << 20)
