from federation.api.documents_version import file_view
from federation.contract.manifest import Chunk, pack_chunks
from federation.contract.types import FileEntry


def test_a_file_is_shown_with_the_number_of_its_chunks() -> None:
    chunks = pack_chunks([Chunk(b"a" * 32, 3), Chunk(b"b" * 32, 2)])
    entry = FileEntry(path="w", size=5, blake3="0" * 64, sha256="1" * 64, chunks=chunks)
    view = file_view(entry)
    assert (view.path, view.size, view.chunks) == ("w", 5, 2)
    assert (view.blake3, view.sha256) == ("0" * 64, "1" * 64)
