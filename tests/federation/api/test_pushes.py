from typing import Any

import pytest
from blake3 import blake3

from federation.api.errors import MissingChunks
from federation.api.pushes import Push, check_push
from federation.contract.errors import Invalid
from federation.contract.manifest import Chunk, manifest_bytes, pack_chunks, parse_manifest
from federation.contract.types import FileEntry, Manifest
from tests.fakes.control_plane import MODEL_YAML

TEXT = MODEL_YAML.format(name="m")


class Store:
    """Chunks by digest, with the length that they have."""

    def __init__(self, *chunks: bytes) -> None:
        self.held = {blake3(chunk).digest(): len(chunk) for chunk in chunks}

    async def missing(self, digests: list[bytes]) -> list[bool]:
        return [digest not in self.held for digest in digests]

    async def lengths(self, digests: list[bytes]) -> list[int]:
        return [self.held.get(digest, 0) for digest in digests]


def entry(path: str, data: bytes, **other: Any) -> FileEntry:
    values: dict[str, Any] = {
        "path": path,
        "size": len(data),
        "blake3": blake3(data).hexdigest(),
        "sha256": "0" * 64,
        "chunks": pack_chunks([Chunk(blake3(data).digest(), len(data))]),
    }
    return FileEntry(**(values | other))


def push(*files: FileEntry, text: str = TEXT, model: str = "m") -> Push:
    return Push(package=text, manifest=Manifest(model=model, files=files, chunker="c"))


WEIGHTS, YAML = entry("model.onnx", b"weights"), entry("model.yaml", TEXT.encode())
STORE: Any = Store(b"weights", TEXT.encode())


async def told(pushed: Push, name: str = "m", store: Any = STORE) -> str:
    with pytest.raises(Invalid) as refusal:
        await check_push(name, pushed, store)
    return refusal.value.sentence()


async def test_a_whole_push_has_the_digest_of_its_manifest() -> None:
    pushed = push(WEIGHTS, YAML)
    checked = await check_push("m", pushed, STORE)
    assert checked.digest == blake3(manifest_bytes(pushed.manifest)).hexdigest()
    assert parse_manifest(checked.data) == pushed.manifest
    assert (checked.package.name, checked.carries_code) == ("m", False)


async def test_a_push_that_does_not_fit_together_is_refused() -> None:
    assert "must be equal" in await told(push(WEIGHTS, YAML), "other")
    assert "must be equal" in await told(push(WEIGHTS, YAML, model="n"))
    renamed = TEXT.replace("name: m", "name: n")
    assert "must be equal" in await told(push(WEIGHTS, YAML, text=renamed))
    assert "not the one" in await told(push(WEIGHTS, YAML, text=TEXT + "description: x\n"))
    assert "'model.onnx'" in await told(push(YAML))
    assert "not the one" in await told(push(WEIGHTS))


async def test_model_yaml_is_the_one_sent_chunk_by_chunk() -> None:
    lying = entry("model.yaml", TEXT.encode(), chunks=WEIGHTS.chunks, size=7)
    assert "not the one" in await told(push(WEIGHTS, lying))


async def test_a_broken_manifest_is_refused() -> None:
    outside = entry("../../etc/passwd", b"weights")
    assert "outside" in await told(push(outside, WEIGHTS, YAML))
    assert "ordered" in await told(push(YAML, WEIGHTS))
    assert "malformed" in await told(push(entry("model.onnx", b"weights", blake3="ab"), YAML))
    assert "the file 8" in await told(push(entry("model.onnx", b"weights", size=8), YAML))


async def test_a_mistake_in_model_yaml_is_told_with_its_line() -> None:
    answer = await told(push(WEIGHTS, YAML, text=TEXT + "inptus: []\n"))
    assert "line 5" in answer
    assert "'inputs'" in answer


async def test_chunks_must_be_there_and_as_long_as_told() -> None:
    store: Any = Store(TEXT.encode())
    with pytest.raises(MissingChunks) as missing:
        await check_push("m", push(WEIGHTS, YAML), store)
    assert missing.value.missing == (blake3(b"weights").hexdigest(),)
    wrong = pack_chunks([Chunk(blake3(b"weights").digest(), 8)])
    longer = entry("model.onnx", b"weights", size=8, chunks=wrong)
    assert "has 7 bytes, the manifest says 8" in await told(push(longer, YAML))


async def test_formats_are_checked_and_code_is_told() -> None:
    pickle = entry("model.pkl", b"weights")
    assert "formats: [pkl]" in await told(push(WEIGHTS, pickle, YAML))
    text = TEXT + "formats: [pkl]\n"
    declared = push(WEIGHTS, pickle, entry("model.yaml", text.encode()), text=text)
    store: Any = Store(b"weights", text.encode())
    assert (await check_push("m", declared, store)).carries_code
