"""The canonical bytes, the chunks, and what a hostile manifest may not say."""

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract import manifest as module
from federation.contract.errors import Invalid
from federation.contract.manifest import (
    MAX_CHUNK_BYTES,
    Chunk,
    check_manifest,
    chunks_of,
    distinct_chunks,
    manifest_bytes,
    manifest_digest,
    pack_chunks,
    parse_manifest,
)
from federation.contract.types import FileEntry, Manifest

HASH = "0" * 64


def chunk(length: int = 1, letter: str = "a") -> Chunk:
    return Chunk(letter.encode() * 32, length)


def entry(path: str, **changes: object) -> FileEntry:
    chunks = pack_chunks([chunk()])
    values: dict[str, object] = {"path": path, "size": 1, "blake3": HASH, "sha256": HASH}
    return FileEntry(**{**values, "chunks": chunks, **changes})  # type: ignore[arg-type]  # on purpose


def of(*files: FileEntry, chunker: str = "") -> Manifest:
    return Manifest(model="m", files=files, chunker=chunker)


SOUND = of(entry("a"), entry("b/c"), entry("b/d", size=0, chunks=b""), chunker="rules#1")


def test_bytes_round_trip() -> None:
    assert parse_manifest(manifest_bytes(SOUND)) == SOUND
    # The identity of all that was ever pushed: it must not change with a release.
    assert manifest_digest(SOUND).startswith("8f8a32596991375ba03bdcbc40cc7d34")


def test_the_bytes_are_canonical() -> None:
    text = manifest_bytes(SOUND).decode()
    again = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert text == again


@pytest.mark.parametrize("changes", [{"model": "n"}, {"chunker": ""}, {"files": ()}])
def test_everything_counts_in_the_digest(changes: dict[str, object]) -> None:
    assert manifest_digest(replace(SOUND, **changes)) != manifest_digest(SOUND)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1))))
def test_chunks_round_trip(raw: list[tuple[bytes, int]]) -> None:
    chunks = [Chunk(digest, length) for digest, length in raw]
    packed = pack_chunks(chunks)
    assert len(packed) == 36 * len(chunks)
    assert list(chunks_of(entry("a", chunks=packed))) == chunks


def test_distinct_chunks_in_the_order_of_first_use() -> None:
    one = entry("a", size=5, chunks=pack_chunks([chunk(2, "b"), chunk(1, "a"), chunk(2, "b")]))
    two = entry("b", size=4, chunks=pack_chunks([chunk(1, "a"), chunk(3, "c")]))
    assert list(distinct_chunks(of(one, two)).items()) == [
        (b"b" * 32, 2),
        (b"a" * 32, 1),
        (b"c" * 32, 3),
    ]


@pytest.mark.parametrize(
    "files",
    [
        (entry("../x"),),
        (entry("/x"),),
        (entry("a"), entry("a")),
        (entry("b"), entry("a")),
        (entry("a"), entry("a/b")),
        (entry("A"), entry("a")),
        (entry("A/x"), entry("a/y")),
        (entry("STRASSE"), entry("straße")),
        (entry("a", size=-1),),
        (entry("a", blake3="short"),),
        (entry("a", blake3="G" * 64),),
        (entry("a", blake3="A" * 64),),
        (entry("a", sha256="short"),),
        (entry("a", chunks=b""),),
        (entry("a", chunks=b"x" * 35),),
        (entry("a", size=2),),
        (entry("a", size=0),),
        (entry("a", size=0, chunks=pack_chunks([chunk(0)])),),
        (entry("a", size=1, chunks=pack_chunks([chunk(1), chunk(0)])),),
        (entry("a", size=1 << 25, chunks=pack_chunks([chunk(MAX_CHUNK_BYTES + 1)])),),
    ],
)
def test_hostile_manifests_are_refused(files: tuple[FileEntry, ...]) -> None:
    with pytest.raises(Invalid):
        check_manifest(of(*files))
    with pytest.raises(Invalid):
        parse_manifest(manifest_bytes(of(*files)))


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    two = of(entry("a"), entry("b"))
    longest = entry("a", size=MAX_CHUNK_BYTES, chunks=pack_chunks([chunk(MAX_CHUNK_BYTES)]))
    for sound in (two, of(longest), of(), of(entry("a"), chunker="x" * 128)):
        assert check_manifest(sound) is sound
    with pytest.raises(Invalid, match="128 characters"):
        check_manifest(of(entry("a"), chunker="x" * 129))
    monkeypatch.setattr(module, "MAX_CHUNKS", 1)
    with pytest.raises(Invalid, match="at most 1 chunks"):
        check_manifest(two)
    monkeypatch.setattr(module, "MAX_FILES", 1)
    with pytest.raises(Invalid, match="at most 1 files; this one has 2"):
        check_manifest(two)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"model": 1, "files": []}',
        b'"\xff"',
        msgspec.json.encode({"model": "m", "files": [{"path": "a"}]}),
        manifest_bytes(SOUND).replace(b"YWFh", b"YW!h"),
    ],
)
def test_malformed_bytes(data: bytes) -> None:
    with pytest.raises(Invalid, match="malformed"):
        parse_manifest(data)
