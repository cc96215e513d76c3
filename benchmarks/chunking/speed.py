"""How fast a package is cut and hashed, as a ratio to plain BLAKE3 of the same bytes.

Input: a scratch directory. Output: measurements of one run on one machine; compare ratios only.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from federation.chunking.cutter import divide_by_content
from federation.chunking.encoding import decode, encode
from federation.chunking.scan import scan_directory

_BLOCK = 16 << 20


@dataclass(frozen=True, slots=True)
class Speed:
    """What was done, in which time and with how much of the CPU."""

    name: str
    bytes: int
    wall_s: float
    cpu_s: float

    @property
    def cpu_s_per_gib(self) -> float:
        """CPU seconds for each GiB."""
        return self.cpu_s / (self.bytes / (1 << 30))


def measure(name: str, size: int, work: Callable[[], object], rounds: int = 3) -> Speed:
    """Return the best of some rounds."""
    best = None
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        took = time.perf_counter() - wall, time.process_time() - cpu
        best = min(best or took, took)
    assert best is not None
    return Speed(name, size, *best)


def _blocks(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(buffer):
            yield buffer[:got]


def _plain_blake3(path: Path) -> None:
    digest = blake3()
    for block in _blocks(path):
        digest.update(block)


def _plain_sha256(path: Path) -> None:
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)


def _cuts_only(path: Path) -> None:
    for block in _blocks(path):
        for _ in divide_by_content(block, True):
            pass


def scanning(folder: Path, size: int) -> list[Speed]:
    """Return the speeds of reading a file of random bytes in the ways that a push does."""
    folder.mkdir(parents=True)
    path = folder / "random.bin"
    with path.open("wb") as file:
        for _ in range(size // _BLOCK):
            file.write(os.urandom(_BLOCK))
    size = path.stat().st_size
    return [
        measure("read + BLAKE3", size, lambda: _plain_blake3(path)),
        measure("read + SHA-256", size, lambda: _plain_sha256(path)),
        measure("read + cuts", size, lambda: _cuts_only(path)),
        measure("scan (all of it)", size, lambda: scan_directory(folder, "m")),
    ]


def encodings(chunk: bytes, moved: bytes) -> list[Speed]:
    """Return the speeds of encoding and decoding a chunk of bf16 numbers, one thread."""
    speeds = []
    for name, code, base in (
        ("zstd", 1, b""),
        ("2 planes + zstd", 2, b""),
        ("XOR + 2 planes + zstd", 0x82, moved),
    ):
        stored = encode(chunk, code, base)
        share = f"{name} -> {len(stored) / len(chunk):.2f}"
        for verb, work in (
            ("encode", lambda c=code, b=base: encode(chunk, c, b)),
            ("decode", lambda s=stored, c=code, b=base: decode(s, c, len(chunk), b)),
        ):
            speeds.append(measure(f"{verb} {share}", len(chunk), work, rounds=5))
    return speeds
