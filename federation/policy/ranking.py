"""Which cluster of each region is the best choice for a new replica: asked again and again.

Input: clusters by region, and their ranks (the lowest is best) when somebody needs them. Output:
the best one of a region. What is given to a cluster makes it a worse choice nearly always, so a
rank is worked out anew only when its cluster seems to be the best of its region.
"""

from collections.abc import Callable, Iterable, Mapping
from heapq import heapify, heappop, heappush, heapreplace

Rank = tuple[float, ...]
Ranked = tuple[Rank, str]


class Ranking:
    """The clusters of each region by rank, then by name."""

    def __init__(self, by_region: Mapping[str, Iterable[str]], rank: Callable[[str], Rank]) -> None:
        self._rank = rank
        self._regions = {name: region for region, names in by_region.items() for name in names}
        self._heaps: dict[str, list[Ranked]] = {region: [] for region in by_region}
        self._newest: dict[str, Ranked] = {}  # by cluster; every other entry of a heap is outdated
        for name, region in self._regions.items():
            ranked = self._newest[name] = (rank(name), name)
            self._heaps[region].append(ranked)
        for heap in self._heaps.values():
            heapify(heap)
        self._worse: set[str] = set()  # the rank of these is as known, or worse
        self._changed: set[str] = set()  # nothing is known of these
        self._aside: list[Ranked] = []

    def __repr__(self) -> str:
        return f"Ranking({len(self._regions)} clusters in {len(self._heaps)} regions)"

    @property
    def regions(self) -> Iterable[str]:
        """All regions."""
        return self._heaps.keys()

    def note(self, name: str, *, worse: bool) -> None:
        """A cluster changed; `worse`: it is certain that it is no better choice now."""
        (self._worse if worse else self._changed).add(name)

    def best(self, region: str) -> Ranked | None:
        """Return the best of a region that is not laid aside."""
        self._renew()
        heap = self._heaps[region]
        while heap:
            name = heap[0][1]
            if heap[0] is not self._newest[name]:
                heappop(heap)
            elif name in self._worse:
                self._worse.remove(name)
                ranked = self._newest[name] = (self._rank(name), name)
                heapreplace(heap, ranked)
            else:
                return heap[0]
        return None

    def lay_aside(self, region: str) -> None:
        """Leave the best of a region out, until `put_back`."""
        if self.best(region) is not None:
            self._aside.append(heappop(self._heaps[region]))

    def put_back(self) -> None:
        """Bring back what was laid aside."""
        for ranked in self._aside:
            if self._newest[ranked[1]] is ranked:
                heappush(self._heaps[self._regions[ranked[1]]], ranked)
        self._aside.clear()

    def _renew(self) -> None:
        if not self._changed:
            return
        for name in self._changed & self._regions.keys():
            self._worse.discard(name)
            ranked = self._newest[name] = (self._rank(name), name)
            heappush(self._heaps[self._regions[name]], ranked)
        self._changed.clear()
