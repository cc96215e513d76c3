"""What sources have in common."""

from pathlib import Path

import pytest

from federation.contract.errors import Invalid
from federation.contract.types import FileEntry, Manifest
from federation.sources.base import Opened, Wanted, client_library


def _manifest(sha256: str) -> Manifest:
    entry = FileEntry(path="a", size=1, blake3="0" * 64, sha256=sha256)
    return Manifest(model="m", files=(entry,))


def test_a_missing_library_names_the_extra_to_install() -> None:
    with pytest.raises(Invalid) as caught:
        client_library("no_such_library_here", "hf", "hf")
    assert 'pip install "inference-federation[hf]"' in caught.value.sentence()
    assert caught.value.reason == "extra-missing"


def test_files_are_compared_with_what_the_source_says() -> None:
    opened = Opened(directory=Path("/x"), source="s", revision="r", sha256={"a": "1" * 64})
    opened.check(_manifest("1" * 64))
    with pytest.raises(Invalid) as caught:
        opened.check(_manifest("2" * 64))
    assert caught.value.reason == "wrong-bytes"


def test_a_file_that_the_user_gave_is_not_compared() -> None:
    extra = {"a": Path("/y")}
    said = {"a": "1" * 64}
    opened = Opened(directory=Path("/x"), source="s", revision="r", sha256=said, extra_files=extra)
    opened.check(_manifest("2" * 64))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), ["a.bin", "b.safetensors", "onnx/c.onnx"]),
        (Wanted(include=("*.onnx",)), ["onnx/c.onnx"]),
        (Wanted(exclude=("*.bin",)), ["b.safetensors", "onnx/c.onnx"]),
        (Wanted(include=("*",), exclude=("onnx/*", "a*")), ["b.safetensors"]),
    ],
)
def test_patterns_choose_files(wanted: Wanted, expected: list[str]) -> None:
    assert wanted.pick(["a.bin", "b.safetensors", "onnx/c.onnx"], "s") == expected


def test_nothing_wanted_is_refused_with_what_there_is() -> None:
    with pytest.raises(Invalid, match=r"it has a\.bin"):
        Wanted(include=("*.onnx",)).pick(["a.bin"], "s3://b/p")
