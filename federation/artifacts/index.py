"""What a pack holds: the index object beside it, and all of them together in memory.

Input: records of chunks that were packed. Output: the bytes of an index object and back; the place
of a chunk by its digest, at about 80 bytes of memory a chunk.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3

from federation.contract.errors import Invalid
from federation.contract.locations import BASE_BYTES, WITH_BASE

_MAGIC = b"FPX1"
_RECORD = struct.Struct("<32sIIIB")  # digest, offset, stored, length, code
_CHECK_BYTES = 32

# In memory a digest's first two bytes choose one of 65,536 buckets: a bytes object of records that
# begin with the other 30. It is searched by bytes.find, which is faster than a table in Python and
# four times smaller than a dict.
_SPOT = struct.Struct("<IIIIB")  # number of the pack, offset, stored, length, code
_KEY_BYTES = 30
_ROW_BYTES = _KEY_BYTES + _SPOT.size


@dataclass(frozen=True, slots=True)
class Record:
    """One chunk of a pack. `base` is the digest of the chunk it was encoded against, or empty."""

    digest: bytes
    offset: int
    stored: int
    length: int
    code: int
    base: bytes = b""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a chunk lies. `pack` is the number that this process gave the pack."""

    pack: int
    offset: int
    stored: int
    length: int
    code: int


def encode_index(records: Sequence[Record]) -> bytes:
    """Return the bytes of an index object: records, bases in their order, a BLAKE3 of both."""
    rows = (_RECORD.pack(r.digest, r.offset, r.stored, r.length, r.code) for r in records)
    body = b"".join((_MAGIC, struct.pack("<I", len(records)), *rows, *(r.base for r in records)))
    return body + blake3(body).digest()


def decode_index(data: bytes) -> list[Record]:
    """Read what `encode_index` wrote; raises Invalid."""
    body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    if body[:4] != _MAGIC or blake3(body).digest() != check:
        raise Invalid("the index of a pack is damaged.")
    count = int.from_bytes(body[4:8], "little")
    first, bases = 8, 8 + count * _RECORD.size
    if len(body) < bases:
        raise Invalid("the index of a pack is damaged.")
    records = []
    for digest, offset, stored, length, code in _RECORD.iter_unpack(body[first:bases]):
        base = b""
        if code & WITH_BASE:
            base = body[bases : bases + BASE_BYTES]
            bases += BASE_BYTES
        records.append(Record(digest, offset, stored, length, code, base))
    if bases != len(body):
        raise Invalid("the index of a pack is damaged.")
    return records


class ChunkIndex:
    """The place of each chunk by its digest; a chunk has one place."""

    def __init__(self) -> None:
        self._buckets = [b""] * 65536
        self._count = 0

    def __repr__(self) -> str:
        return f"ChunkIndex({self._count} chunks)"

    def __len__(self) -> int:
        return self._count

    def _find(self, digest: bytes) -> tuple[int, int]:
        """Return the bucket and the position of the row in it, -1 if there is none."""
        number, key = digest[0] << 8 | digest[1], digest[2:]
        bucket = self._buckets[number]
        at = bucket.find(key)
        while at % _ROW_BYTES and at >= 0:  # met by chance across rows
            at = bucket.find(key, at + 1)
        return number, at

    def get(self, digest: bytes) -> Spot | None:
        """Return where a chunk lies."""
        number, at = self._find(digest)
        return None if at < 0 else Spot(*_SPOT.unpack_from(self._buckets[number], at + _KEY_BYTES))

    def put(self, digest: bytes, spot: Spot) -> None:
        """Say where a chunk lies, instead of what was said before."""
        self.discard(digest)
        row = digest[2:] + _SPOT.pack(spot.pack, spot.offset, spot.stored, spot.length, spot.code)
        self._buckets[digest[0] << 8 | digest[1]] += row
        self._count += 1

    def discard(self, digest: bytes) -> None:
        """Forget a chunk."""
        number, at = self._find(digest)
        if at >= 0:
            bucket = self._buckets[number]
            self._buckets[number] = bucket[:at] + bucket[at + _ROW_BYTES :]
            self._count -= 1

    def __iter__(self) -> Iterator[bytes]:
        for number, bucket in enumerate(self._buckets):
            first = number.to_bytes(2, "big")
            for at in range(0, len(bucket), _ROW_BYTES):
                yield first + bucket[at : at + _KEY_BYTES]
