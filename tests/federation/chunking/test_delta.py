"""What is new in a version; and the bound on what travels, over the pairs of the benchmark."""

from pathlib import Path

import pytest
from blake3 import blake3

from benchmarks.chunking.pairs import Maker, Pair, Shape
from benchmarks.chunking.table import OURS, lines, row_of
from federation.chunking.cutter import AVERAGE_BYTES
from federation.chunking.delta import Change, bases, compare, new_chunks
from federation.contract.manifest import Chunk, pack_chunks
from federation.contract.types import FileEntry, Manifest

# Chunks by letter; a file is a text of letters.
LENGTHS = {letter: 10 + number for number, letter in enumerate("abcdefgh")}
LENGTHS |= {"x": LENGTHS["a"], "y": LENGTHS["c"]}


def _digest(letter: str) -> bytes:
    return blake3(letter.encode()).digest()


def _manifest(files: dict[str, str]) -> Manifest:
    return Manifest(
        model="m",
        files=tuple(
            FileEntry(
                path=path,
                size=sum(LENGTHS[letter] for letter in text),
                blake3=_digest(text).hex(),
                sha256="",
                chunks=pack_chunks(Chunk(_digest(x), LENGTHS[x]) for x in text),
            )
            for path, text in sorted(files.items())
        ),
    )


def _story(old: dict[str, str], new: dict[str, str]) -> list[tuple[str, str, int, str]]:
    found = compare(_manifest(old), _manifest(new))
    assert found.bytes == sum(file.travels for file in found.files)
    fresh = new_chunks(_manifest(old), _manifest(new))
    assert (found.chunks, found.bytes) == (len(fresh), sum(fresh.values()))
    return [(file.path, file.change.value, file.travels, file.was) for file in found.files]


def test_each_change_of_a_file() -> None:
    old = {"same": "ab", "edited": "cd", "gone": "e", "before": "fa", "empty": ""}
    new = {"same": "ab", "edited": "cg", "new": "ga", "after": "fa", "hollow": "", "twin": "fa"}
    assert _story(old, new) == [
        ("after", "renamed", 0, "before"),
        ("edited", "changed", LENGTHS["g"], ""),
        ("empty", "removed", 0, ""),
        ("gone", "removed", 0, ""),
        ("hollow", "added", 0, ""),
        ("new", "added", 0, ""),
        ("same", "equal", 0, ""),
        ("twin", "added", 0, ""),
    ]


def test_nothing_is_there() -> None:
    found = compare(None, _manifest({"x": "aab", "y": "b"}))
    assert (found.bytes, found.chunks) == (LENGTHS["a"] + LENGTHS["b"], 2)
    assert found.size == 2 * LENGTHS["a"] + 2 * LENGTHS["b"]
    assert [(file.change, file.travels) for file in found.files] == [
        (Change.ADDED, found.bytes),
        (Change.ADDED, 0),
    ]


def test_bases_lie_at_the_same_place() -> None:
    old = _manifest({"f": "abc", "other": "d", "same": "e"})
    new = _manifest({"f": "xby", "other": "ha", "same": "e", "more": "g"})
    assert bases(old, new) == {_digest("x"): _digest("a"), _digest("y"): _digest("c")}


PAIRS = {pair.name: pair for pair in Maker(Shape.small()).pairs()}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_what_travels_is_what_changed(pair: Pair, tmp_path: Path) -> None:
    row = row_of(pair, tmp_path, encodings=pair.noise)
    assert row.travels[OURS] <= 1.1 * row.changed + 2 * AVERAGE_BYTES * row.runs
    assert row.travels[OURS] <= row.travels["fixed 4M"]
    if not row.changed:  # the header, and what is packed with it
        allowed = {"other order of tensors": 20_000, "GGUF name + 54 bytes": 2 * AVERAGE_BYTES}
        assert row.travels[OURS] <= allowed.get(pair.name, 8_000 * max(row.runs, 1))
    if not row.runs:
        assert row.travels[OURS] == 0
    if row.runs > 2:  # edits of whole tensors move these, and no neighbour
        assert row.travels[OURS] <= 1.1 * row.changed + 8_000
    if row.encoded is not None and row.weight_delta is not None:
        assert row.weight_delta < 0.2 * row.size < 0.75 * row.size > row.encoded
    assert len(list(lines([row]))) == 4


def test_the_pairs_are_those_of_the_issue() -> None:
    assert len(PAIRS) >= 15
    assert sum(pair.runs == 0 for pair in PAIRS.values()) == 2
    assert all(pair.old != pair.new for pair in PAIRS.values() if pair.name != "equal")
