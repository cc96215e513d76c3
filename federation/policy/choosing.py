"""Which clusters a deployment is for, when it does not want all that match.

Input: a Wish and the Rooms. Output: names of clusters.

Who has it keeps it: a healthy replica is never moved to improve a picture, and a cluster out of
contact keeps its place, since what it serves it may still serve. Where another version or other
needs do not fit, another cluster that has room goes first. A cluster that drains, or that was
revoked, holds no place: another one takes over, and when that one is warm, there may be one too
many. New places go to the region with the fewest, then to the most room (the share of fitting units
that is free, in tenths), the lowest price, the fewest versions, the first name.
"""

from collections.abc import Hashable, Iterable, Mapping
from heapq import heapify, heappop

from federation.contract.scaling import ScalingMode
from federation.policy.placement import (
    Fit,
    Wish,
    asked_of,
    is_barred,
    judge,
    not_selected,
    unsuited,
)
from federation.policy.records import ClusterRecord
from federation.policy.rooms import Room, Rooms
from federation.policy.standing import is_warm

_Ranked = tuple[tuple[float, ...], str]


def candidates(wish: Wish, rooms: Rooms) -> Mapping[str, list[str]]:
    """Return the clusters that match what the deployment says of clusters, by region."""
    key = _key(wish)
    if (found := rooms.remembered.get(key)) is None:
        by_region: dict[str, list[str]] = {}
        for name, record in rooms.state.clusters.items():
            if _suits(wish, record):
                by_region.setdefault(record.spec.region, []).append(name)
        found = rooms.remembered[key] = by_region
    return found


def _key(wish: Wish) -> Hashable:
    """What a deployment says of clusters."""
    spec = wish.spec
    labels = tuple(sorted(spec.cluster_labels.items()))
    return (spec.regions, spec.residency, labels, spec.engine, spec.max_price_per_gpu_hour)


def _suits(wish: Wish, record: ClusterRecord) -> bool:
    return not not_selected(wish.spec, record.spec) and not unsuited(wish.spec, record)


def matches(wish: Wish, room: Room) -> bool:
    """Whether a cluster is one of the candidates."""
    return _suits(wish, room.record)


def choose(wish: Wish, rooms: Rooms) -> set[str]:
    """Return the clusters that shall serve the wish."""
    wanted = wish.spec.clusters
    if not wanted:
        return {name for names in candidates(wish, rooms).values() for name in names}
    return _Choice(wish, rooms).made(wanted)


class _Choice:
    """Places, given away one after the other."""

    def __init__(self, wish: Wish, rooms: Rooms) -> None:
        self._wish, self._rooms = wish, rooms
        self._chosen: set[str] = set()
        self._regions: dict[str, int] = {}

    def made(self, wanted: int) -> set[str]:
        """Return what is chosen when `wanted` places are given away, or no more can be."""
        wish, rooms = self._wish, self._rooms
        holders = [rooms[name] for name in rooms.holders(wish.spec.model)]
        holding = [room for room in holders if self._keeps(room)]
        self._take(wanted, self._holders(filter(self._is_settled, holding)))
        if len(self._chosen) == wanted:
            return self._chosen
        others = [room for room in holding if room.name not in self._chosen]
        changing = [room for room in others if self._fits(room.name)]
        self._take(wanted, self._holders(changing))
        if len(self._chosen) < wanted:
            there = {room.name for room in holding}
            self._take_new(wanted, there)
        stuck = [room for room in others if room not in changing]
        self._take(wanted, self._holders(stuck))
        return self._chosen

    def _take_new(self, wanted: int, there: set[str]) -> None:
        """Choose clusters that don't have it, where it fits, until enough are chosen."""
        wish, rooms = self._wish, self._rooms
        by_region = candidates(wish, rooms)
        ranking = rooms.ranking(wish.needs(wish.target), _key(wish), by_region)
        spread = self._regions if wish.spec.spread else {}
        tops = {region: top for region in by_region if (top := ranking.best(region))}
        while len(self._chosen) < wanted and tops:
            region = min(tops, key=lambda each: (spread.get(each, 0), tops[each]))
            name = tops[region][1]
            if name not in there and self._fits(name):
                self._chosen.add(name)
                self._regions[region] = self._regions.get(region, 0) + 1
            ranking.lay_aside(region)
            if (top := ranking.best(region)) is None:
                del tops[region]
            else:
                tops[region] = top
        ranking.put_back()

    def _holders(self, rooms: Iterable[Room]) -> dict[str, list[_Ranked]]:
        """Of too many, those stay where it is warm."""
        model = self._wish.spec.model
        by_region: dict[str, list[_Ranked]] = {}
        for room in rooms:
            warm = any(is_warm(room.record, v) for v in room.serving(model).values())
            by_region.setdefault(room.region, []).append(((not warm,), room.name))
        return by_region

    def _keeps(self, room: Room) -> bool:
        """Whether a cluster that serves the model holds one of the places."""
        wish = self._wish
        return (
            room.active
            and (
                room.serves(wish.spec.model)
                or bool(room.asleep(wish.spec.model))
                or self._is_swapped(room)
            )
            and matches(wish, room)
            and not is_barred(wish, room, wish.target)
        )

    def _is_settled(self, room: Room) -> bool:
        """Whether it was given the target, with what a replica needs now."""
        model, target = self._wish.spec.model, self._wish.target
        held = room.serving(model).get(target)
        if held is None:
            asleep = self._wish.asleep and target in room.asleep(model)
            return asleep or self._is_swapped(room)
        wished, scaling = asked_of(self._wish, room, target), self._wish.spec.scaling
        # Where replicas follow the load, any number is good enough to keep the place.
        follows = scaling.mode is ScalingMode.AUTO and held.replicas >= scaling.least
        same = (held.replicas, held.max_replicas) == (wished.replicas, wished.max_replicas)
        return held.needs == wished.needs and (follows or same)

    def _is_swapped(self, room: Room) -> bool:
        """Whether a rollout in place put another version where the target was."""
        canary = self._wish.canary
        if canary is None or not canary.in_place or room.name not in canary.at:
            return False
        return bool(room.held(self._wish.spec.model))

    def _fits(self, name: str) -> bool:
        room, target = self._rooms[name], self._wish.target
        return judge(self._wish, room, target, tell=False).fit is Fit.FITS

    def _take(self, wanted: int, by_region: dict[str, list[_Ranked]]) -> None:
        """Choose until enough are chosen, one after the other: each counts for its region."""
        groups = {region: listed for region, listed in by_region.items() if listed}
        if not self._wish.spec.spread:
            groups = {"": [each for listed in groups.values() for each in listed]}
        for listed in groups.values():
            heapify(listed)
        while len(self._chosen) < wanted and any(groups.values()):
            group = min(
                (each for each, listed in groups.items() if listed),
                key=lambda each: (self._regions.get(each, 0), groups[each][0]),
            )
            _, name = heappop(groups[group])
            self._chosen.add(name)
            self._regions[group] = self._regions.get(group, 0) + 1
