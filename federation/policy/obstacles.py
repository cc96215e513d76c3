"""What stands in the way of a deployment, cluster by cluster, in words.

Input: a Wish, the Rooms and the clusters that were chosen. Output: obstacles: each names the
nearest miss, so that somebody can see what would have to change. They are told from the records
that placement is decided on.
"""

from collections.abc import Collection
from dataclasses import dataclass

from federation.policy.placement import Wish, not_selected, reasons, unsuited
from federation.policy.rooms import Room, Rooms


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a cluster that the deployment selects does not serve it, or not as it is wished."""

    cluster: str
    region: str
    reason: str


def obstacles(wish: Wish, rooms: Rooms, chosen: Collection[str]) -> list[Obstacle]:
    """Return what stands in the way, ordered by cluster.

    A deployment that has all the clusters it asked for is not told of those that it does without.
    """
    complete = bool(wish.spec.clusters) and len(chosen) >= wish.spec.clusters
    found = []
    for room in rooms:
        if not_selected(wish.spec, room.record.spec):
            continue
        if complete and room.name not in chosen:
            continue
        if words := _words(wish, room):
            found.append(Obstacle(cluster=room.name, region=room.region, reason="; ".join(words)))
    return sorted(found, key=lambda each: each.cluster)


def _words(wish: Wish, room: Room) -> tuple[str, ...]:
    if reason := unsuited(wish.spec, room.record):
        return (reason,)
    told = list(reasons(wish, room))
    if room.serves(wish.spec.model):
        told += _of_what_is_there(wish, room)
    return tuple(told)


def _of_what_is_there(wish: Wish, room: Room) -> list[str]:
    """What is wrong though it stays: nothing goes by itself."""
    told = []
    if words := room.overcommitted():
        told.append(f"{words}; nothing goes by itself: remove something, or add room")
    told += [
        f"model {model!r} is there as well, though the two must be apart"
        for model in sorted(wish.apart)
        if room.serves(model)
    ]
    return told
