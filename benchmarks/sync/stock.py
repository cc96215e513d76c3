"""Two versions of a package, and the folder that an origin serves them from.

Input: a size. Output: directories v1 and v2 (a LoRA-like edit: the q and v matrices of each layer
are new), and below `www` all that the control plane's paths would answer, byte for byte.
"""

import json
import random
import struct
from dataclasses import dataclass
from pathlib import Path

import msgspec
from blake3 import blake3

from federation.chunking.scan import scan_directory
from federation.contract.locations import Locations, PackSource, Place, pack_places
from federation.contract.manifest import (
    chunks_of,
    distinct_chunks,
    manifest_bytes,
    manifest_digest,
)
from federation.contract.release import Release, envelope_bytes, seal
from federation.contract.types import Manifest
from federation.trust.signing import sign_envelope

MIB = 1 << 20
MODEL = "bench"
PACK_BYTES = 64 * MIB
LAYERS = 16
# Shares of a layer; q and v are what the edit replaces (10 %, as when a LoRA is merged).
SHARES = {"q": 0.06, "k": 0.04, "v": 0.04, "o": 0.06, "up": 0.26, "gate": 0.27, "down": 0.26}
EDITED = ("q", "v")
MODEL_YAML = """\
name: bench
runtime: python
file: weights.safetensors
inputs: [{name: X, datatype: FP32, shape: [-1]}]
outputs: [{name: X, datatype: FP32, shape: [-1]}]
"""


@dataclass(frozen=True)
class Version:
    number: int
    directory: Path
    manifest: Manifest
    digest: str

    @property
    def size(self) -> int:
        return self.manifest.size


def make_versions(folder: Path, size: int) -> list[Version]:
    made = []
    for number in (1, 2):
        directory = folder / f"v{number}"
        directory.mkdir(parents=True)
        (directory / "model.yaml").write_text(MODEL_YAML)
        _write_weights(directory / "weights.safetensors", size, edited=number == 2)
        manifest = scan_directory(directory, MODEL)
        made.append(Version(number, directory, manifest, manifest_digest(manifest)))
    return made


def _write_weights(path: Path, size: int, *, edited: bool) -> None:
    lengths = {
        f"layers.{layer}.{name}": int(size / LAYERS * share) // 2 * 2
        for layer in range(LAYERS)
        for name, share in SHARES.items()
    }
    header, at = {}, 0
    for name, length in lengths.items():
        header[name] = {"dtype": "BF16", "shape": [length // 2], "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, length in lengths.items():
            new = edited and name.rpartition(".")[2] in EDITED
            dice = random.Random(f"{name}/{new}")
            for start in range(0, length, MIB):
                file.write(dice.randbytes(min(MIB, length - start)))


def publish(versions: list[Version], www: Path, release_key: str) -> None:
    """Lay the versions out as the control plane would serve them; packs hold each chunk once."""
    packs = www / "api/v1/packs"
    packs.mkdir(parents=True)
    places: dict[bytes, tuple[str, int]] = {}  # digest -> name of the pack, offset
    for version in versions:
        _store(version, packs, places)
        folder = www / f"api/v1/models/{MODEL}/versions/{version.number}"
        folder.mkdir(parents=True)
        (folder / "manifest").write_bytes(manifest_bytes(version.manifest))
        (folder / "locations").write_bytes(_locations(version.manifest, places))
        release = Release(
            model=MODEL,
            manifest=version.digest,
            size=version.size,
            sequence=version.number,
            created=1,
        )
        signed = sign_envelope(release_key, seal(release))
        (folder / "release").write_bytes(envelope_bytes(signed))


def _store(version: Version, packs: Path, places: dict[bytes, tuple[str, int]]) -> None:
    pack, members = bytearray(), list[tuple[bytes, int]]()

    def seal_pack() -> None:
        name = blake3(pack).hexdigest()
        (packs / name).write_bytes(pack)
        places.update({digest: (name, at) for digest, at in members})
        pack.clear()
        members.clear()

    held = set(places)
    for entry in version.manifest.files:
        with (version.directory / entry.path).open("rb") as file:
            for chunk in chunks_of(entry):
                data = file.read(chunk.length)
                if chunk.digest in held:
                    continue
                held.add(chunk.digest)
                if len(pack) + len(data) > PACK_BYTES:
                    seal_pack()
                members.append((chunk.digest, len(pack)))
                pack += data
    seal_pack()


def _locations(manifest: Manifest, places: dict[bytes, tuple[str, int]]) -> bytes:
    names: dict[str, int] = {}
    found = []
    for digest, length in distinct_chunks(manifest).items():
        name, offset = places[digest]
        found.append(Place(names.setdefault(name, len(names)), offset, length))
    sources = tuple(PackSource(id=name, url=f"/api/v1/packs/{name}") for name in names)
    document = Locations(packs=sources, places=pack_places(found), good_for_s=3600.0)
    return msgspec.json.encode(document)
