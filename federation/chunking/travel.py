"""What must travel to a region so that its clusters have a version.

Input: the manifests of the version and of what each cluster has, and how the store keeps it.
Output: bytes. Only chunks that no cluster of a region has must come from the origin; the rest its
clusters take from each other.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from federation.contract.locations import Locations, bases_of, places_of
from federation.contract.manifest import distinct_chunks
from federation.contract.types import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Travel:
    """What must travel to a region. `wire` are the bytes that leave the store; `from_origin` are
    the same before encoding, and without the bases of differences; `most` is what the cluster that
    lacks most must fetch, from wherever, before encoding."""

    region: str
    clusters: int
    from_origin: int
    wire: int
    most: int


def travels(
    new: Manifest,
    held: Mapping[str, Mapping[str, Sequence[Manifest]]],
    locations: Locations | None = None,
) -> list[Travel]:
    """Return what must travel, for each region; `held` = the manifests of each of its clusters,
    `locations` = how the new chunks are stored (None = as they are)."""
    chunks = distinct_chunks(new)
    stored = _Stored(chunks, locations)
    found = []
    for region, clusters in sorted(held.items()):
        lacking = [_lacking(chunks, manifests) for manifests in clusters.values()]
        nowhere = set.intersection(*lacking) if lacking else set()
        bases = set(stored.bases.values())
        absent = set[bytes]().union(*(_lacking(bases, m) for m in clusters.values()))
        found.append(
            Travel(
                region=region,
                clusters=len(clusters),
                from_origin=_bytes(chunks, nowhere),
                wire=sum(stored.wire(digest, absent) for digest in nowhere),
                most=max((_bytes(chunks, one) for one in lacking), default=0),
            )
        )
    return found


class _Stored:
    """How the chunks of a version are stored; `bases` = chunk to what it is a difference to."""

    def __init__(self, chunks: Mapping[bytes, int], locations: Locations | None) -> None:
        self._sizes = dict(chunks)
        self.bases: dict[bytes, bytes] = {}
        if locations is not None:
            digests = list(chunks)
            places = dict(zip(digests, places_of(locations), strict=True)) | bases_of(locations)
            self._sizes = {digest: place.stored for digest, place in places.items()}
            self.bases = {digests[n]: bytes.fromhex(b) for n, b in locations.bases.items()}

    def wire(self, digest: bytes, absent: Container[bytes]) -> int:
        """Return what is fetched for a chunk by a cluster that may lack the bases in `absent`."""
        base = self.bases.get(digest, b"")
        return self._sizes[digest] + (self._sizes[base] if base in absent else 0)


def _lacking(chunks: Iterable[bytes], manifests: Iterable[Manifest]) -> set[bytes]:
    lacking = set(chunks)
    for manifest in manifests:
        lacking.difference_update(distinct_chunks(manifest))
    return lacking


def _bytes(chunks: Mapping[bytes, int], digests: Iterable[bytes]) -> int:
    return sum(chunks[digest] for digest in digests)


def lacking_bytes(new: Manifest, held: Iterable[Manifest]) -> int:
    """Return what a cluster that has `held` must fetch of a version, in bytes before encoding."""
    chunks = distinct_chunks(new)
    return _bytes(chunks, _lacking(chunks, held))
