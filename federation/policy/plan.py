"""What a deployment would change, in named buckets: place, keep, stop, cannot.

Input: the State before and after the deployment was decided on (on a copy). Output: a Plan. It is
read off what the deciders did, so it says what would happen, not what another formula expects.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from federation.contract.types import AssignedVersion, Scheduling
from federation.policy.choosing import choose
from federation.policy.obstacles import Obstacle, obstacles
from federation.policy.placement import Wish, is_barred
from federation.policy.rooms import Room, Rooms
from federation.policy.settle import wish_in
from federation.policy.standing import WITH_BYTES, has_bytes, serving_versions
from federation.policy.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """One version at one cluster. `reason` says in words why, or when."""

    cluster: str
    region: str
    version: int
    replicas: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What the place of a version at a cluster needs to come there.

    `size` (bytes) is that of the whole version, `held` the digests of other versions of the model
    whose bytes the cluster has, `bytes_per_second` how fast it fetched last, or may fetch at most
    (`capped`); 0 = nobody knows.
    """

    cluster: str
    region: str
    digest: str
    size: int
    there: bool
    near: bool  # another cluster of its region has all of it
    held: tuple[str, ...] = ()
    bytes_per_second: float = 0.0
    capped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would happen. `others` tells what else would change, of other models."""

    deployment: str
    model: str
    version: int
    place: tuple[PlanRow, ...] = ()
    keep: tuple[PlanRow, ...] = ()
    stop: tuple[PlanRow, ...] = ()
    cannot: tuple[Obstacle, ...] = ()
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    transfers: tuple[Transfer, ...] = ()


def plan_of(before: State, after: State, name: str) -> Plan:
    """Return what the step from one State to the other does for a deployment."""
    wish, rooms = wish_in(after, after.deployments[name]), Rooms(after)
    chosen = choose(wish, rooms)
    place: list[PlanRow] = []
    keep: list[PlanRow] = []
    stop: list[PlanRow] = []
    for cluster in sorted(after.clusters):
        room = rooms[cluster]
        old = {v.version: v for v in serving_versions(before.clusters[cluster], wish.spec.model)}
        new = room.serving(wish.spec.model)
        for number in sorted(old.keys() | new.keys()):
            was, now = old.get(number), new.get(number)
            if now is None:
                why = "at once: it may not be there" if _barred(wish, room, number) else "at once"
                stop.append(_row(room, was or wish.assigned(number), why))
            elif reason := _leaves(wish, room, number, chosen=cluster in chosen):
                stop.append(_row(room, now, reason))
            elif was is None:
                place.append(_row(room, now))
            else:
                keep.append(_row(room, now, _change(was, now)))
    return Plan(
        deployment=name,
        model=wish.spec.model,
        version=wish.target,
        place=tuple(place),
        keep=tuple(keep),
        stop=tuple(stop),
        cannot=tuple(obstacles(wish, rooms, chosen)),
        others=tuple(_others(before, after, wish.spec.model)),
        notes=tuple(_notes(wish, rooms, chosen)),
        transfers=tuple(transfer_of(after, wish, rooms[row.cluster], row) for row in place),
    )


def _row(room: Room, version: AssignedVersion, reason: str = "") -> PlanRow:
    return PlanRow(
        cluster=room.name,
        region=room.region,
        version=version.version,
        replicas=version.replicas,
        reason=reason,
    )


def _barred(wish: Wish, room: Room, number: int) -> bool:
    return number in wish.versions and is_barred(wish, room, number)


def _leaves(wish: Wish, room: Room, number: int, *, chosen: bool) -> str:
    """Return when a version that is there still will go, in words; "" if it stays."""
    if chosen and number in wish.wanted:
        return ""
    if room.record.scheduling is Scheduling.DRAINING:
        return "after the cluster is no longer draining: what it has loaded stays loaded"
    if chosen and not is_barred(wish, room, wish.target):
        return f"when version {wish.target} is warm there"
    successor = number if number in wish.wanted else wish.target
    return f"when version {successor} is warm at another cluster"


def _change(was: AssignedVersion, now: AssignedVersion) -> str:
    told = []
    if was.replicas != now.replicas:
        told.append(f"replicas: {was.replicas}, then {now.replicas}")
    if was.needs != now.needs:
        told.append("with other resources")
    return "; ".join(told)


def _others(before: State, after: State, model: str) -> Iterator[str]:
    """What changes of other models: they get the room that this one frees."""
    for name in sorted(after.clusters):
        old, new = (
            {(v.model, v.version) for v in state.clusters[name].assignment.versions}
            for state in (before, after)
        )
        for other, number in sorted(new - old):
            if other != model:
                yield f"{other} {number} gets a place at {name}"
        for other, number in sorted(old - new):
            if other != model:
                yield f"{other} {number} goes from {name}"


def _notes(wish: Wish, rooms: Rooms, chosen: set[str]) -> Iterator[str]:
    wanted = wish.spec.clusters
    serving = sum(rooms[name].serves(wish.spec.model) for name in chosen)
    if wanted and serving < wanted:
        yield f"{wanted} clusters are asked for, {serving} can"
    if not chosen:
        yield "no cluster matches"
    whole = [name for name in chosen if rooms[name].whole_units]
    if whole and any(wish.needs(number).fraction for number in wish.wanted):
        where = ", ".join(sorted(whole))
        yield f"Kubernetes shares no GPU: each replica gets a whole unit there ({where})"
    if wish.asleep:
        where = ", ".join(sorted(name for name in chosen if rooms[name].asleep(wish.spec.model)))
        yield f"it sleeps: its package lies ready ({where or 'nowhere yet'}), a request loads it"
    elif wish.spec.scaling.may_sleep:
        idle_s = wish.spec.scaling.down_s
        yield f"when nobody used it for {idle_s:g} s it has no replica, until a request comes"


def transfer_of(state: State, wish: Wish, room: Room, row: PlanRow) -> Transfer:
    """Return what has to come to a cluster so that it has a version of the wish."""
    version, record = wish.wanted[row.version], room.record
    seen = record.last.observed.versions if record.last else ()
    mine = (v.digest for v in seen if v.model == wish.spec.model and v.state in WITH_BYTES)
    rate, capped = _rate(state, room)
    return Transfer(
        cluster=room.name,
        region=room.region,
        digest=version.digest,
        size=version.size,
        there=has_bytes(record, version),
        near=any(
            has_bytes(other, version)
            for other in state.clusters.values()
            if other is not record and other.spec.region == room.region
        ),
        held=tuple(sorted(set(mine) - {version.digest})),
        bytes_per_second=rate,
        capped=capped,
    )


def _rate(state: State, room: Room) -> tuple[float, bool]:
    """Return how many bytes a second a cluster fetches, and whether that is only its cap."""
    cap = room.record.spec.sync.max_mbytes_per_second * 1e6
    report = state.reports.get(room.name)
    seen = [v.sync.bytes_per_second for v in report.observed.versions if v.sync] if report else []
    fastest = max(seen, default=0.0)
    if fastest:
        return (min(fastest, cap) if cap else fastest), False
    return cap, cap > 0
