from federation.chunking.travel import Travel, lacking_bytes, travels
from federation.contract.manifest import Chunk, pack_chunks
from federation.contract.types import FileEntry, Manifest


def manifest(*names: str) -> Manifest:
    """A manifest of one file, whose chunks are named by letters and have 10 bytes each."""
    chunks = pack_chunks([Chunk(name.encode() * 32, 10) for name in names])
    entry = FileEntry(
        path="f.onnx", size=10 * len(names), blake3="0" * 64, sha256="0" * 64, chunks=chunks
    )
    return Manifest(model="m", files=(entry,))


def test_only_what_no_cluster_of_a_region_has_comes_from_the_origin() -> None:
    new = manifest("a", "b", "c", "d")
    held: dict[str, dict[str, list[Manifest]]] = {
        "us": {"us-1": [manifest("a", "b", "x")], "us-2": [manifest("b", "c"), manifest("a")]},
        "eu": {"eu-1": []},
        "full": {"full-1": [new]},
        "mixed": {"mixed-1": [new], "mixed-2": []},
        "empty": {},
    }
    assert travels(new, held) == [
        Travel(region="empty", clusters=0, from_origin=0, most=0),
        Travel(region="eu", clusters=1, from_origin=40, most=40),
        Travel(region="full", clusters=1, from_origin=0, most=0),
        Travel(region="mixed", clusters=2, from_origin=0, most=40),
        Travel(region="us", clusters=2, from_origin=10, most=20),
    ]


def test_a_cluster_lacks_what_none_of_its_versions_has() -> None:
    new = manifest("a", "b", "c")
    assert lacking_bytes(new, []) == 30
    assert lacking_bytes(new, [manifest("a"), manifest("c", "x")]) == 10
    assert lacking_bytes(new, [new]) == 0
