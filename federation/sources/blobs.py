"""Fetched files by what they are: an interrupted fetch goes on, and nothing is fetched twice.

Input: a key that names immutable bytes, and a reader that can begin anywhere. Output: files
`blobs/<key>`; what is incomplete is `blobs/<key>.part`. Several processes may share the folder.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from federation.contract.errors import Exhausted, Invalid, Unavailable

_TRIES = 5
# Yields the bytes from an offset on; raises Unavailable when it breaks off.
Read = Callable[[int], Iterator[bytes]]
Told = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Immutable bytes at a source. `identity` says which, as exactly as the source can; `size` is
    in bytes; `sha256` (hex) is checked unless empty; `name` is for error messages."""

    identity: tuple[str, ...]
    size: int
    name: str
    sha256: str = ""

    @property
    def key(self) -> str:
        """The name of its file."""
        return blake3("\x00".join((*self.identity, str(self.size))).encode()).hexdigest()


class BlobCache:
    """The folder of fetched files."""

    def __init__(self, root: Path, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._folder = root / "blobs"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._pause = pause

    def __repr__(self) -> str:
        return f"BlobCache({self._folder})"

    def present(self, blob: Blob) -> int:
        """Return how many bytes of a blob are here."""
        for path in (self._folder / blob.key, self._part(blob)):
            if path.exists():
                return min(path.stat().st_size, blob.size)
        return 0

    def fetch(self, blob: Blob, read: Read, told: Told) -> Path:
        """Return the file of a blob; fetches what is missing. `told` hears the bytes that are here.

        Raises Unavailable if the source keeps breaking off, Invalid if its bytes are not as long as
        they should be or have another digest, Exhausted if the disk is full.
        """
        final = self._folder / blob.key
        with self._locked(blob) as part:
            if not (final.exists() and final.stat().st_size == blob.size):
                self._complete(blob, part, read, told)
                _check(blob, part)
                part.rename(final)
            os.utime(final)
        told(blob.size)
        return final

    def forget(self, blob: Blob) -> None:
        """Remove a blob, whole or not."""
        for path in (self._folder / blob.key, self._part(blob)):
            path.unlink(missing_ok=True)

    def sweep(self, before_s: float) -> None:
        """Remove what was last used before that time (Unix seconds)."""
        for path in self._folder.iterdir():
            if path.stat().st_mtime < before_s:
                path.unlink(missing_ok=True)

    def _part(self, blob: Blob) -> Path:
        return self._folder / f"{blob.key}.part"

    @contextmanager
    def _locked(self, blob: Blob) -> Iterator[Path]:
        """Yield the path of the incomplete file; another process that fetches it is waited for."""
        lock = os.open(self._folder / f"{blob.key}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.utime(lock)
            yield self._part(blob)
        finally:
            os.close(lock)

    def _complete(self, blob: Blob, part: Path, read: Read, told: Told) -> None:
        tries = 0
        while (at := part.stat().st_size if part.exists() else 0) < blob.size or not part.exists():
            try:
                _append(blob, part, read(at), told)
            except Unavailable:
                tries = 0 if _size(part) > at else tries + 1  # what makes progress may go on
                if tries >= _TRIES:
                    raise
                self._pause(min(0.25 * 2**tries, 5.0))
        if at > blob.size:
            part.unlink()
            raise _wrong(blob, f"it has more than {blob.size} bytes")


def _append(blob: Blob, part: Path, blocks: Iterator[bytes], told: Told) -> None:
    with part.open("ab") as file:
        try:
            for block in blocks:
                if file.tell() + len(block) > blob.size:
                    raise _wrong(blob, f"it has more than {blob.size} bytes")
                file.write(block)
                told(file.tell())
        except OSError as error:
            raise Exhausted(f"cannot write {part}: {error.strerror}.") from None
        if file.tell() < blob.size:
            raise Unavailable(f"{blob.name} broke off after {file.tell()} of {blob.size} bytes.")


def _check(blob: Blob, part: Path) -> None:
    if not blob.sha256:
        return
    with part.open("rb", buffering=0) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != blob.sha256:
        part.unlink()
        raise _wrong(blob, f"its SHA-256 is {found}")


def _wrong(blob: Blob, why: str) -> Invalid:
    return Invalid(f"{blob.name} is not what its source says: {why}.", reason="wrong-bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
