"""What must travel to a region so that its clusters have a version.

Input: the manifests of the version and of what each cluster has. Output: bytes. Only chunks that no
cluster of a region has must come from the origin; the rest its clusters take from each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from federation.contract.manifest import distinct_chunks
from federation.contract.types import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Travel:
    """What must travel to a region, in bytes before encoding. `most` is what the cluster that lacks
    most must fetch, from wherever."""

    region: str
    clusters: int
    from_origin: int
    most: int


def travels(new: Manifest, held: Mapping[str, Mapping[str, Sequence[Manifest]]]) -> list[Travel]:
    """Return what must travel, for each region; `held` = the manifests of each of its clusters."""
    chunks = distinct_chunks(new)
    found = []
    for region, clusters in sorted(held.items()):
        lacking = [_lacking(chunks, manifests) for manifests in clusters.values()]
        nowhere = set.intersection(*lacking) if lacking else set()
        found.append(
            Travel(
                region=region,
                clusters=len(clusters),
                from_origin=_bytes(chunks, nowhere),
                most=max((_bytes(chunks, one) for one in lacking), default=0),
            )
        )
    return found


def _lacking(chunks: Mapping[bytes, int], manifests: Iterable[Manifest]) -> set[bytes]:
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
