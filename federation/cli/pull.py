"""Fetching a version: its release is checked first, then every chunk before it is written.

Input: manifest, release and locations from the control plane; packs from wherever the links lead.
Output: a directory that appears whole, by one rename. What an interrupted pull left beside it is
hashed and used again.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from federation.chunking.encoding import decode
from federation.cli.client import ApiClient
from federation.cli.pack_ranges import PackRanges, runs_of
from federation.cli.progress import Progress
from federation.cli.tls import Roots
from federation.contract.errors import (
    AlreadyExists,
    Exhausted,
    Invalid,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from federation.contract.locations import (
    WITH_BASE,
    Locations,
    bases_of,
    parse_locations,
    places_of,
)
from federation.contract.manifest import chunks_of, distinct_chunks, parse_manifest
from federation.contract.release import Release, parse_envelope
from federation.contract.types import Manifest
from federation.runtime.files import fsync_directory
from federation.trust.signing import verified

TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version that may be fetched: what its verified release says, and its manifest."""

    model: str
    version: int
    release: Release
    manifest: Manifest


def read_version(client: ApiClient, model: str, wanted: str, now: float) -> Version:
    """Return a version by number, alias or "0" (= the newest).

    Raises NotFound, and Invalid if its release is not signed by this federation, has expired, or
    speaks of another content than is served.
    """
    path = ("api", "v1", "models", model, "versions", wanted)
    document = client.get(*path)
    number = str(document["version"])
    data = client.fetch(*path[:-1], number, "manifest")
    keys = [str(key) for key in client.get("api", "v1", "trust").get("releaseKeys", ())]
    release = verified(parse_envelope(client.fetch(*path[:-1], number, "release")), keys)
    manifest = parse_manifest(data)
    told = (release.model, release.manifest, release.size)
    if told != (model, blake3(data).hexdigest(), manifest.size) or manifest.model != model:
        raise Invalid(f"the release of {model}@{number} speaks of another content.")
    if release.expires and release.expires <= now:
        raise Invalid(f"the release of {model}@{number} has expired.", hint="Push it again.")
    return Version(model=model, version=int(number), release=release, manifest=manifest)


def pull_version(
    client: ApiClient, version: Version, target: Path, *, endpoint: str, roots: Roots | None
) -> int:
    """Fetch a version into `target`, which must not be there yet; return the bytes that came.

    Raises AlreadyExists, Exhausted (no space), Invalid (damaged at the far end), Unavailable.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AlreadyExists(f"{target} exists already and is not empty.", hint="Choose another.")
    staging = target.with_name(f".{target.name}.{version.release.manifest[:16]}.part")
    try:
        with _Pull(version.manifest, staging) as pull:
            came = _fetch(client, version, pull, endpoint=endpoint, roots=roots)
            pull.publish(target)
    except OSError as error:
        raise Exhausted(f"cannot write {staging}: {error.strerror}.") from None
    return came


def _fetch(
    client: ApiClient, version: Version, pull: "_Pull", *, endpoint: str, roots: Roots | None
) -> int:
    path = ("api", "v1", "models", version.model, "versions", str(version.version), "locations")
    total = sum(distinct_chunks(version.manifest).values())
    came = failures = 0
    with Progress("fetching", total) as progress:
        progress.add(total - sum(pull.missing.values()))
        while pull.missing:
            locations = parse_locations(client.fetch(*path))
            packs = PackRanges(locations, endpoint, roots)
            before = len(pull.missing)
            try:
                for digest, data in _chunks(packs, locations, pull):
                    pull.put(digest, data)
                    progress.add(len(data))
            except (PermissionDenied, Unavailable) as error:  # a link ended, a connection broke
                failures = 0 if len(pull.missing) < before else failures + 1
                if failures >= TRIES:
                    raise error from None
            finally:
                came += packs.received
                packs.close()
    return came


def _chunks(
    packs: PackRanges, locations: Locations, pull: "_Pull"
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the missing chunks, decoded; not checked yet."""
    digests = list(pull.digests)
    base_of = {digests[n]: bytes.fromhex(base) for n, base in locations.bases.items()}
    places = zip(places_of(locations), digests, strict=True)
    needed = [(place, digest) for place, digest in places if digest in pull.missing]
    # Those with a base last: it may be a chunk of this version.
    needed.sort(key=lambda one: (bool(one[0].code & WITH_BASE), one[0].pack, one[0].offset))
    for run in runs_of(needed, pull.digests):
        stored = packs.read(run)
        bases = {base_of[d]: pull.digests[d] for _, d in run if d in base_of}
        held = _held(packs, locations, pull, bases)
        for place, digest in run:
            base = held.get(base_of.get(digest, b""), b"")
            yield digest, decode(stored[digest], place.code, pull.digests[digest], base)


def _held(
    packs: PackRanges, locations: Locations, pull: "_Pull", bases: dict[bytes, int]
) -> dict[bytes, bytes]:
    """Return the bytes of bases (digest to length): from here, or fetched, of whatever version."""
    held = {base: pull.read(base) for base in bases if pull.has(base)}
    places = bases_of(locations) if len(held) < len(bases) else {}
    lacking = [(places[base], base) for base in bases if base not in held]
    lacking.sort(key=lambda one: (one[0].pack, one[0].offset))
    for run in runs_of(lacking, bases):
        stored = packs.read(run)
        held |= {base: decode(stored[base], place.code, bases[base]) for place, base in run}
    return held


class _Pull:
    """A version being put together in `staging`; `missing` are the chunks that are not there."""

    def __init__(self, manifest: Manifest, staging: Path) -> None:
        self._manifest = manifest
        self._staging = staging
        self.digests = distinct_chunks(manifest)
        self.missing = dict(self.digests)
        self._places: dict[bytes, list[tuple[int, int]]] = {}
        self._files: list[int] = []

    def __enter__(self) -> "_Pull":
        self._staging.mkdir(parents=True, exist_ok=True)
        for number, entry in enumerate(self._manifest.files):
            path = self._staging / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._files.append(os.open(path, flags, 0o644))
            os.ftruncate(self._files[-1], entry.size)
            offset = 0
            for chunk in chunks_of(entry):
                self._places.setdefault(chunk.digest, []).append((number, offset))
                offset += chunk.length
        self._resume()
        return self

    def __exit__(self, *_: object) -> None:
        while self._files:
            os.close(self._files.pop())

    def _resume(self) -> None:
        """Find out what lies here already."""
        if all(os.fstat(file).st_blocks == 0 for file in self._files):
            return
        for digest, length in self.digests.items():
            for file, offset in self._places[digest]:
                data = os.pread(self._files[file], length, offset)
                if blake3(data).digest() == digest:
                    self.put(digest, data)
                    break

    def put(self, digest: bytes, data: bytes) -> None:
        """Write a chunk to all of its places; raises Invalid if the bytes are others."""
        if blake3(data).digest() != digest:
            raise Invalid(
                f"what was fetched is not chunk {digest.hex()}.",
                hint="Check the version with: fed model verify",
            )
        for file, offset in self._places[digest]:
            _write(self._files[file], data, offset)
        self.missing.pop(digest, None)

    def has(self, digest: bytes) -> bool:
        """Tell whether a chunk was put."""
        return digest in self.digests and digest not in self.missing

    def read(self, digest: bytes) -> bytes:
        """Return a chunk that was put."""
        file, offset = self._places[digest][0]
        return os.pread(self._files[file], self.digests[digest], offset)

    def publish(self, target: Path) -> None:
        """Let the directory appear; raises NotFound if something is missing."""
        if self.missing:
            raise NotFound(f"{len(self.missing)} chunks are missing.")
        for file in self._files:
            os.fsync(file)
        known = {entry.path for entry in self._manifest.files}
        for path in self._staging.rglob("*"):  # what is no part of the version
            if path.is_file() and path.relative_to(self._staging).as_posix() not in known:
                path.unlink()
        if target.exists():
            target.rmdir()
        shutil.move(self._staging, target)
        fsync_directory(target.parent)


def _write(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(file, view, offset)
        view, offset = view[done:], offset + done
