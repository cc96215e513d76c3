"""Where the chunks of one package lie in the store, and how a chunk looks there and on its way.

Input: made by the artifact store. Output: read by agents and by `fed model pull`. Nothing in it is
believed: every chunk is checked against the digest in the manifest after it was decoded.

A chunk is stored as it is, or encoded (see `federation.chunking.encoding`):

    code        stored bytes
    0           the bytes themselves
    1           zstd
    2, 4        bytes of 2- or 4-byte numbers split into planes, then zstd
    0x82, 0x84  the same after XOR with another chunk of equal length, the base

A base has a code without a base of its own: who lacks it fetches it too, and no more.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from federation.contract.errors import Invalid

RAW, ZSTD = 0, 1
WITH_BASE = 0x80
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RECORD = struct.Struct("<IIIB")
_FRAME = struct.Struct("<32sIIB")  # digest, length, stored length, code; then the base, if any
FRAME_BYTES = _FRAME.size
BASE_BYTES = 32


@dataclass(frozen=True, slots=True)
class Place:
    """Where one chunk lies: `stored` bytes from `offset` in the pack with that number."""

    pack: int
    offset: int
    stored: int
    code: int = RAW


@dataclass(frozen=True, slots=True, kw_only=True)
class PackSource:
    """A pack, and where its bytes can be fetched with range requests. `url` may be relative to the
    control plane, and may be signed; then it ends with the document that it came in."""

    id: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Locations:
    """The places of all distinct chunks of a manifest, in the order of their first use.

    `places` has 13 bytes a chunk: number of the pack, offset, stored length (uint32,
    little-endian), code. `bases` maps the number of a chunk to the digest (hex) of its base, and
    `base_places` has the places of these bases, in the order of those numbers: whoever has not got
    a base fetches it. `good_for_s` is how long the URLs can be used from now.
    """

    packs: tuple[PackSource, ...]
    places: bytes
    bases: Mapping[int, str] = field(default_factory=dict)
    base_places: bytes = b""
    good_for_s: float = 0.0


def pack_places(places: Iterable[Place]) -> bytes:
    """Return the form that places have in Locations."""
    return b"".join(_RECORD.pack(p.pack, p.offset, p.stored, p.code) for p in places)


def places_of(locations: Locations) -> Iterator[Place]:
    """Yield the places in order; raises Invalid."""
    return _places(locations, locations.places)


def bases_of(locations: Locations) -> dict[bytes, Place]:
    """Return where the bases lie, by digest; raises Invalid."""
    chunks = range(len(locations.places) // _RECORD.size)
    digests = [digest for _, digest in sorted(locations.bases.items())]
    places = list(_places(locations, locations.base_places))
    sound = all(_DIGEST.fullmatch(d) for d in digests) and all(n in chunks for n in locations.bases)
    if len(places) != len(digests) or not sound:
        raise Invalid("the places of the bases are malformed.")
    return {bytes.fromhex(d): place for d, place in zip(digests, places, strict=True)}


def _places(locations: Locations, records: bytes) -> Iterator[Place]:
    if len(records) % _RECORD.size:
        raise Invalid("the places of the chunks are malformed.")
    for record in _RECORD.iter_unpack(records):
        place = Place(*record)
        if place.pack >= len(locations.packs):
            raise Invalid("a chunk lies in a pack that is not listed.")
        yield place


def parse_locations(data: bytes) -> Locations:
    """Read the JSON form; raises Invalid."""
    try:
        return msgspec.json.decode(data, type=Locations)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the locations are malformed: {error}.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The head of a chunk on its way to the store; `stored` bytes follow."""

    digest: bytes
    length: int
    stored: int
    code: int = RAW
    base: bytes = b""

    def pack(self) -> bytes:
        """Return its bytes."""
        return _FRAME.pack(self.digest, self.length, self.stored, self.code) + self.base


def unpack_frame(head: bytes) -> Frame:
    """Read the first FRAME_BYTES of a frame; BASE_BYTES more follow if `code & WITH_BASE`."""
    digest, length, stored, code = _FRAME.unpack(head)
    return Frame(digest=digest, length=length, stored=stored, code=code)
