"""Small packages cut at fixed sizes, and a source that counts what it is asked for."""

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blake3 import blake3

from edge_agent.sync.shelf import Shelf
from edge_agent.sync.staging import Staging
from federation.contract.manifest import Chunk, manifest_bytes, pack_chunks
from federation.contract.types import FileEntry, Manifest

CHUNK = 16 << 10


def entry(path: str, data: bytes, size: int = CHUNK) -> FileEntry:
    """Return the entry of a file that is cut every `size` bytes."""
    cuts = [data[at : at + size] for at in range(0, len(data), size)]
    chunks = pack_chunks(Chunk(blake3(cut).digest(), len(cut)) for cut in cuts)
    whole = blake3(data).hexdigest()
    return FileEntry(path=path, size=len(data), blake3=whole, sha256="0" * 64, chunks=chunks)


class Package:
    """One version: its documents, and its chunks by digest."""

    def __init__(
        self, files: Mapping[str, bytes], *, model: str = "m", version: int = 1, size: int = CHUNK
    ) -> None:
        self.files, self.model, self.version = dict(sorted(files.items())), model, version
        entries = tuple(entry(path, data, size) for path, data in self.files.items())
        self.manifest = Manifest(model=model, files=entries, chunker="test")
        self.document = manifest_bytes(self.manifest)
        self.digest = blake3(self.document).hexdigest()
        cuts = (d[at : at + size] for d in self.files.values() for at in range(0, len(d), size))
        self.chunks = {blake3(cut).digest(): cut for cut in cuts}
        self.asked: Counter[int] = Counter()

    @property
    def key(self) -> tuple[str, int, str]:
        return self.model, self.version, self.digest

    def open(self, shelf: Shelf, release: bytes = b"") -> Staging:
        return shelf.open(self.model, self.version, self.document, release, digest=self.digest)

    def feed(self, staging: Staging, numbers: Iterable[int], *, threads: int = 1) -> None:
        """Put chunks, and count them."""

        def put(number: int) -> None:
            self.asked[number] += 1
            staging.put(number, self.chunks[staging.chunk(number).digest])

        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(put, numbers):
                pass

    def fetch(self, shelf: Shelf, *, release: bytes = b"", threads: int = 1) -> Path:
        """Bring the whole package."""
        staging = self.open(shelf, release)
        try:
            staging.resume()
            staging.reuse()
            self.feed(staging, needed(staging), threads=threads)
            return staging.publish()
        finally:
            staging.close()

    def is_at(self, folder: Path) -> bool:
        """Whether a folder holds exactly these bytes."""
        found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if not p.is_dir()}
        return found.keys() == self.files.keys() and all(
            not p.is_symlink() and p.read_bytes() == self.files[name] for name, p in found.items()
        )

    def staging_folder(self, root: Path) -> Path:
        return root / "staging" / self.model / f"{self.version}-{self.digest[:16]}"

    def folder(self, root: Path) -> Path:
        return root / "packages" / self.model / f"{self.version}-{self.digest[:16]}"


def needed(staging: Staging) -> list[int]:
    """Return all chunks that must be fetched."""
    return [n for piece in range(len(staging.pieces)) for n in staging.needed(piece)]


def visible(root: Path) -> list[str]:
    """Return the package folders that an engine could see."""
    return sorted(
        p.relative_to(root / "packages").as_posix()
        for p in (root / "packages").glob("*/*")
        if p.is_dir()
    )
