"""Pulling from a store that lies, stalls, or forgets; and going on after an interruption."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from federation.chunking.encoding import decode, encode
from federation.chunking.scan import scan_directory
from federation.cli.pull import pull_version, read_version
from federation.contract.errors import (
    AlreadyExists,
    Invalid,
    PermissionDenied,
    Unavailable,
)
from federation.contract.locations import Locations, PackSource, Place, pack_places
from federation.contract.manifest import distinct_chunks, manifest_bytes, manifest_digest
from federation.contract.release import Release, envelope_bytes, seal
from federation.contract.types import Manifest
from federation.trust.signing import new_signing_key, public_key, sign_envelope

KEY = new_signing_key()


@dataclass
class Origin:
    """One pack behind HTTP, the documents of a version, and how it misbehaves."""

    manifest: Manifest
    pack: bytes
    places: list[Place]
    url: str = ""
    answers: list[str] = field(default_factory=list)  # faults of the next answers
    ranges: list[str] = field(default_factory=list)
    located: int = 0
    bases: dict[int, str] = field(default_factory=dict)
    base_places: dict[int, Place] = field(default_factory=dict)

    def locations(self) -> bytes:
        import msgspec

        self.located += 1
        source = PackSource(id="p" * 64, url=f"/packs/p?n={self.located}")
        bases = pack_places(place for _, place in sorted(self.base_places.items()))
        told = Locations(
            packs=(source,),
            places=pack_places(self.places),
            bases=self.bases,
            base_places=bases,
        )
        return msgspec.json.encode(told)

    # ---------------------------------------------------- what pull asks of an ApiClient

    envelope: Any = None
    keys: tuple[str, ...] = (public_key(KEY),)

    def get(self, *path: str) -> dict[str, Any]:
        return {"releaseKeys": list(self.keys)} if path[-1] == "trust" else {"version": 1}

    def fetch(self, *path: str) -> bytes:
        match path[-1]:
            case "manifest":
                return manifest_bytes(self.manifest)
            case "release":
                return envelope_bytes(self.envelope)
            case _:
                return self.locations()

    def release(self, **other: Any) -> Release:
        values: dict[str, Any] = {
            "model": "m",
            "manifest": manifest_digest(self.manifest),
            "size": self.manifest.size,
            "sequence": 1,
            "created": 1,
        }
        return Release(**(values | other))


def serve(origin: Origin) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers["Range"].removeprefix("bytes=")
            origin.ranges.append(asked)
            start, end = (int(n) for n in asked.split("-"))
            data, status = origin.pack[start : end + 1], 206
            fault = origin.answers.pop(0) if origin.answers else ""
            if fault == "flip":
                data = bytes([data[0] ^ 1]) + data[1:]
            elif fault == "longer":
                data += b"x"
            elif fault == "whole":
                data, status = origin.pack, 200
            elif fault in ("403", "500"):
                data, status = b"", int(fault)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data) + (9 if fault == "short" else 0)))
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = fault == "short"

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "deep").mkdir(parents=True)
    data = np.random.default_rng(3).bytes(12_000_000)
    (folder / "w.safetensors").write_bytes(data)
    (folder / "deep" / "copy.safetensors").write_bytes(data[:3_000_000])
    (folder / "empty.txt").write_bytes(b"")
    (folder / "text.txt").write_bytes(b"text" * 10_000)
    return folder


@pytest.fixture
def origin(package: Path) -> Iterator[Origin]:
    manifest = scan_directory(package, "m")
    whole = b"".join((package / e.path).read_bytes() for e in manifest.files)
    chunks, at = {}, 0
    for entry in manifest.files:
        for digest, length in _chunks(entry):
            chunks[digest] = whole[at : at + length]
            at += length
    pack, places = b"", []
    for number, digest in enumerate(distinct_chunks(manifest)):
        code = 1 if number % 3 == 1 else 0
        stored = encode(chunks[digest], code)
        places.append(Place(0, len(pack), len(stored), code))
        pack += stored
    made = Origin(manifest=manifest, pack=pack, places=places)
    made.envelope = sign_envelope(KEY, seal(made.release()))
    server = serve(made)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    server.shutdown()
    server.server_close()


def _chunks(entry: Any) -> Iterator[tuple[bytes, int]]:
    from federation.contract.manifest import chunks_of

    for chunk in chunks_of(entry):
        yield chunk.digest, chunk.length


def pull(origin: Origin, target: Path) -> int:
    client: Any = origin
    version = read_version(client, "m", "0", now=10.0)
    return pull_version(client, version, target, endpoint=origin.url, roots=None)


def files(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def test_a_version_comes_whole_in_few_ranges(origin: Origin, package: Path, tmp_path: Path) -> None:
    came = pull(origin, tmp_path / "t")
    assert files(tmp_path / "t") == files(package)
    assert came == len(origin.pack)
    assert len(origin.ranges) <= 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["package", "t"]


@pytest.mark.parametrize("fault", ["short", "longer", "whole", "500", "403"])
def test_an_answer_that_is_no_range_is_asked_again(
    origin: Origin, package: Path, tmp_path: Path, fault: str
) -> None:
    origin.answers = [fault, "", fault]
    pull(origin, tmp_path / "t")
    assert files(tmp_path / "t") == files(package)
    assert origin.located >= 2  # with new links


def test_a_source_that_never_answers_well_is_given_up(origin: Origin, tmp_path: Path) -> None:
    for fault, error in (("500", Unavailable), ("403", PermissionDenied)):
        origin.answers = [fault] * 100
        with pytest.raises(error):
            pull(origin, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_flipped_bytes_are_never_written_and_the_rest_is_used_again(
    origin: Origin, package: Path, tmp_path: Path
) -> None:
    origin.answers = ["", "flip"]
    with pytest.raises(Invalid):
        pull(origin, tmp_path / "t")
    assert not (tmp_path / "t").exists()
    origin.ranges.clear()
    came = pull(origin, tmp_path / "t")
    assert files(tmp_path / "t") == files(package)
    assert 0 < came < len(origin.pack)  # what was fetched before was not fetched again


def test_what_lies_in_the_half_made_directory_is_hashed(
    origin: Origin, package: Path, tmp_path: Path
) -> None:
    staging = tmp_path / f".t.{manifest_digest(origin.manifest)[:16]}.part"
    (staging / "deep").mkdir(parents=True)
    data = bytearray((package / "w.safetensors").read_bytes())
    data[5_000_000] ^= 1
    (staging / "w.safetensors").write_bytes(data + b"too long")
    (staging / "stray.txt").write_text("of nobody")
    came = pull(origin, tmp_path / "t")
    assert files(tmp_path / "t") == files(package)
    assert 0 < came < 5_000_000


def test_a_target_with_something_in_it_is_left_alone(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "mine").write_text("x")
    with pytest.raises(AlreadyExists):
        pull(origin, tmp_path / "t")
    (tmp_path / "t" / "mine").unlink()
    pull(origin, tmp_path / "t")  # an empty one is fine


@pytest.mark.parametrize(
    "other",
    [{"model": "n"}, {"manifest": "0" * 64}, {"size": 1}, {"expires": 9}],
)
def test_a_release_of_something_else_or_of_the_past_is_refused(
    origin: Origin, tmp_path: Path, other: dict[str, Any]
) -> None:
    origin.envelope = sign_envelope(KEY, seal(origin.release(**other)))
    with pytest.raises(Invalid):
        pull(origin, tmp_path / "t")
    assert origin.located == 0  # nothing was fetched


def test_a_release_that_a_stranger_signed_is_refused(origin: Origin, tmp_path: Path) -> None:
    origin.keys = (public_key(new_signing_key()),)
    with pytest.raises(Invalid, match="none of the trusted keys"):
        pull(origin, tmp_path / "t")
    origin.keys = ()
    with pytest.raises(Invalid):
        pull(origin, tmp_path / "t")


def lean(origin: Origin, number: int, base: bytes, *, told: bytes = b"") -> None:
    """Store a chunk as a difference to `base`, and that behind it; `told` = other bytes of it."""
    place = origin.places[number]
    data = decode(origin.pack[place.offset :][: place.stored], place.code, len(base))
    stored, kept = encode(data, 0x82, base), encode(told or base, 1)
    at = len(origin.pack)
    origin.pack += stored + kept
    origin.places[number] = Place(0, at, len(stored), 0x82)
    origin.bases[number] = blake3(base).hexdigest()
    origin.base_places[number] = Place(0, at + len(stored), len(kept), 1)


def test_bases_are_fetched_unless_they_are_of_this_version(
    origin: Origin, package: Path, tmp_path: Path
) -> None:
    lengths = list(distinct_chunks(origin.manifest).values())
    for number in (0, 2, 3):
        lean(origin, number, np.random.default_rng(number).bytes(lengths[number]))
    came = pull(origin, tmp_path / "t")
    assert files(tmp_path / "t") == files(package)
    bases = sum(place.stored for place in origin.base_places.values())
    assert came == sum(place.stored for place in origin.places) + bases


def test_bases_with_other_bytes_are_noticed(origin: Origin, tmp_path: Path) -> None:
    length = next(iter(distinct_chunks(origin.manifest).values()))
    lean(origin, 0, bytes(length), told=b"x" * length)
    with pytest.raises(Invalid, match="is not chunk"):
        pull(origin, tmp_path / "t")
    origin.places[0] = replace(origin.places[0], code=0x82)
    origin.bases.clear()
    origin.base_places.clear()
    with pytest.raises(Invalid):
        pull(origin, tmp_path / "t")


def test_another_manifest_than_the_released_one_is_refused(origin: Origin, tmp_path: Path) -> None:
    first = origin.manifest
    origin.manifest = Manifest(model="m", files=first.files[:1])
    with pytest.raises(Invalid, match="another content"):
        pull(origin, tmp_path / "t")
