"""What is asked of a source, and what a source says it has.

Input: manifests and locations. Output: values that `transfer` and `exchange` share. An Offer is the
one place that knows whether the URLs of the origin's packs are still good.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from federation.contract.errors import Invalid, NotFound
from federation.contract.locations import Locations, Place, bases_of, places_of
from federation.contract.manifest import distinct_chunks
from federation.contract.types import Manifest
from federation.runtime.clock import Clock, SystemClock

EXPIRY_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True)
class WantedChunk:
    """A chunk that is missing here. `number` is its number in the package, `digest` its BLAKE3 (32
    bytes); `offset` is where it begins in its piece, for peers: they serve pieces."""

    number: int
    digest: bytes
    length: int
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRequest:
    """A piece of the package `digest` (hex), to be asked of the gateway of a cluster at `url`."""

    cluster: str
    url: str
    digest: str
    piece: int


class PeerOutcome(StrEnum):
    """What came of asking a peer."""

    GOT = "got"  # every chunk came, was right, and was put
    NOT_YET = "not-yet"  # it fetches this piece itself: ask again
    REFUSED = "refused"  # it has not got it, does not give it to us, or is busy
    UNREACHABLE = "unreachable"  # no connection, a cut, or a stall
    BAD = "bad"  # wrong bytes, or no answer that HTTP and our rules allow


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAnswer:
    """`reason` is a sentence that names the peer; `wire_bytes` were received in any case."""

    outcome: PeerOutcome
    reason: str = ""
    wire_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Current:
    """One state of an offer; a refresh replaces it whole."""

    generation: int
    locations: Locations
    places: tuple[Place, ...]
    bases: Mapping[bytes, Place]
    expires_at: float  # monotonic seconds


@dataclass(eq=False)
class Offer:
    """Where the origin has the chunks of one package. `load` fetches locations anew; `base_of`
    returns the bytes of a chunk that is on this disk, or None; it blocks."""

    manifest: Manifest
    locations: Locations
    load: Callable[[], Awaitable[Locations]]
    base_of: Callable[[bytes], bytes | None] = lambda _digest: None
    clock: Clock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        self._numbers = {digest: n for n, digest in enumerate(distinct_chunks(self.manifest))}
        self._lock = asyncio.Lock()
        self._current = self._take(0, self.locations)

    def __repr__(self) -> str:
        return f"Offer({self.manifest.model}, {self._current.generation} refreshes)"

    @property
    def generation(self) -> int:
        """How often it was refreshed."""
        return self._current.generation

    @property
    def expired(self) -> bool:
        """Whether the URLs are past their time."""
        return self.clock.monotonic_s() >= self._current.expires_at

    def place_of(self, digest: bytes) -> Place:
        """Return where a chunk lies, or a base; raises NotFound."""
        if (number := self._numbers.get(digest)) is None:
            if base := self._current.bases.get(digest):
                return base
            raise NotFound(f"chunk {digest.hex()[:16]} is not part of {self.manifest.model!r}.")
        return self._current.places[number]

    def url_of(self, place: Place) -> str:
        """Return the URL of the pack in which a chunk lies."""
        return self._current.locations.packs[place.pack].url

    def base_for(self, digest: bytes) -> bytes:
        """Return the digest of the chunk that this one is a difference to, or b""."""
        return bytes.fromhex(self._current.locations.bases.get(self._numbers.get(digest, -1), ""))

    async def refresh(self, seen: int) -> None:
        """Fetch the locations anew, unless that happened since generation `seen`.

        Raises what `load` raises.
        """
        async with self._lock:
            if self._current.generation == seen:
                self._current = self._take(seen + 1, await self.load())

    def _take(self, generation: int, locations: Locations) -> _Current:
        places, bases = tuple(places_of(locations)), bases_of(locations)
        if len(places) != len(self._numbers):
            told = f"{len(places)} places for {len(self._numbers)} chunks"
            raise Invalid(f"the locations of {self.manifest.model!r} do not fit it: {told}.")
        good_for_s = locations.good_for_s or float("inf")
        expires_at = self.clock.monotonic_s() + max(good_for_s - EXPIRY_MARGIN_S, good_for_s / 2)
        return _Current(generation, locations, places, bases, expires_at)
