from federation.chunking.travel import Travel, lacking_bytes, travels
from federation.contract.locations import Locations, PackSource, Place, pack_places
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
        Travel(region="empty", clusters=0, from_origin=0, wire=0, most=0),
        Travel(region="eu", clusters=1, from_origin=40, wire=40, most=40),
        Travel(region="full", clusters=1, from_origin=0, wire=0, most=0),
        Travel(region="mixed", clusters=2, from_origin=0, wire=0, most=40),
        Travel(region="us", clusters=2, from_origin=10, wire=10, most=20),
    ]


def test_differences_count_as_stored_and_bases_for_who_lacks_them() -> None:
    new = manifest("a", "b", "c")
    old = {name: manifest(name) for name in "xy"}
    locations = Locations(
        packs=(PackSource(id="p", url=""),),
        places=pack_places([Place(0, 0, 2, 0x82), Place(0, 2, 3, 0x82), Place(0, 5, 10)]),
        bases={0: (b"x" * 32).hex(), 1: (b"y" * 32).hex()},
        base_places=pack_places([Place(0, 20, 7), Place(0, 30, 8)]),
    )
    held: dict[str, dict[str, list[Manifest]]] = {
        "fresh": {"one": []},
        "half": {"one": [old["x"]]},
        "mixed": {"one": [old["x"], old["y"]], "two": [old["y"]]},
        "old": {"one": [old["x"], old["y"]], "two": [old["y"], old["x"]]},
    }
    wires = {t.region: (t.from_origin, t.wire) for t in travels(new, held, locations)}
    assert wires == {"fresh": (30, 30), "half": (30, 23), "mixed": (30, 22), "old": (30, 15)}


def test_a_cluster_lacks_what_none_of_its_versions_has() -> None:
    new = manifest("a", "b", "c")
    assert lacking_bytes(new, []) == 30
    assert lacking_bytes(new, [manifest("a"), manifest("c", "x")]) == 10
    assert lacking_bytes(new, [new]) == 0
