"""What a rollout would do, wave by wave: where both versions fit, what travels, what is missing.

Input: the State before, and the one in which the rollout was asked for (on a copy). Output: a
RolloutPlan. Whether a version has room is asked of `placement`, as for real.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from federation.policy import lookup
from federation.policy.placement import Fit, Wish, judge, wish_of
from federation.policy.plan import PlanRow, Transfer, transfer_of
from federation.policy.rollouts.freezes import frozen_regions
from federation.policy.rollouts.placing import Canary
from federation.policy.rollouts.records import RolloutRecord
from federation.policy.rollouts.signatures import differences
from federation.policy.rooms import Room, Rooms
from federation.policy.state import State

BESIDE = "beside"  # both versions fit
IN_PLACE = "in place"  # the stable one goes first
CANNOT = "cannot"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAt:
    """The canary at one cluster. `fit` is beside, in place, or cannot; `reason` says why. `missing`
    replicas do not serve while the canary comes; `transfer` is None where it cannot go."""

    wave: int
    cluster: str
    region: str
    fit: str
    replicas: int = 0
    missing: int = 0
    reason: str = ""
    transfer: Transfer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """What would happen, without time for verdicts: `least_s` is how long it bakes at least."""

    rollout: str
    model: str
    stable: int
    canary: int
    waves: int
    approvals: tuple[int, ...]
    least_s: float
    places: tuple[PlannedAt, ...]
    notes: tuple[str, ...]


def rollout_plan(
    before: State, after: State, name: str, now: datetime, *, in_place: bool
) -> RolloutPlan:
    """Return what the rollout of that name, asked for in `after`, would do; `in_place`: whether the
    stable version may go first where it has to."""
    record = after.rollouts[name]
    strategy = record.spec.strategy
    wish, rooms = _wish(after, record), Rooms(before)
    how = IN_PLACE if in_place else CANNOT
    places = tuple(
        _place(before, record, wish, rooms[cluster], wave, how)
        for wave, each in enumerate(record.waves, start=1)
        for cluster in each.clusters
        if cluster in before.clusters
    )
    return RolloutPlan(
        rollout=name,
        model=record.spec.model,
        stable=record.stable,
        canary=record.canary,
        waves=len(record.waves),
        approvals=tuple(n for n, wave in enumerate(record.waves, start=1) if wave.approval),
        least_s=len(record.waves) * len(strategy.steps) * strategy.bake_s,
        places=places,
        notes=(*_notes(record, places), *_guards(before, record, now)),
    )


def _wish(state: State, record: RolloutRecord) -> Wish:
    """Return the deployment's wish as it is when all waves have begun."""
    everywhere = frozenset(name for wave in record.waves for name in wave.clusters)
    model = lookup.model(state, record.spec.model)
    deployment = lookup.deployment(state, record.deployment)
    canary = Canary(version=record.canary, at=everywhere)
    found = wish_of(replace(deployment, target=record.stable), model, canary=canary)
    return replace(found, asleep=False)


def _place(
    state: State, record: RolloutRecord, wish: Wish, room: Room, wave: int, alone: str
) -> PlannedAt:
    verdict = judge(wish, room, record.canary)
    replicas = wish.assigned(record.canary).replicas
    row = PlanRow(cluster=room.name, region=room.region, version=record.canary, replicas=replicas)
    planned = PlannedAt(
        wave=wave,
        cluster=room.name,
        region=room.region,
        fit=BESIDE,
        replicas=replicas,
        transfer=transfer_of(state, wish, room, row),
    )
    if verdict.fit is Fit.FITS:
        return planned
    stable = room.serving(record.spec.model).get(record.stable)
    if stable is not None and _fits_alone(wish, room, record):
        return replace(planned, fit=alone, missing=stable.replicas, reason=verdict.reason)
    return replace(planned, fit=CANNOT, replicas=0, reason=verdict.reason, transfer=None)


def _fits_alone(wish: Wish, room: Room, record: RolloutRecord) -> bool:
    """Whether the canary fits where the stable version went first; the room is spoilt by it."""
    model = record.spec.model
    room.give(model, tuple(v for v in room.held(model) if v.version != record.stable))
    return judge(wish, room, record.canary).fit is Fit.FITS


def _notes(record: RolloutRecord, places: tuple[PlannedAt, ...]) -> Iterator[str]:
    names = [place.cluster for place in places if place.fit == CANNOT and place.missing]
    if names:
        yield (
            f"both versions do not fit at once at {', '.join(names)}: --in-place lets version "
            f"{record.stable} go first there, and its replicas are missing until version "
            f"{record.canary} is warm"
        )
    missing = [place for place in places if place.fit == IN_PLACE]
    for place in missing:
        yield (
            f"{place.cluster} serves with {place.missing} replicas fewer until version "
            f"{record.canary} is warm there"
        )
    if not places:
        yield "no cluster is in any wave"


def _guards(state: State, record: RolloutRecord, now: datetime) -> Iterator[str]:
    """What a person should know before: freezes, and what clients would notice."""
    regions = sorted({region for wave in record.waves for region in wave.regions})
    for region, end in frozen_regions(regions, state.regions, state.zone, now).items():
        yield f"{region} is frozen until {end:%F %H:%M} UTC: its wave waits until then"
    strategy = record.spec.strategy
    if strategy.analysis.enabled and len(strategy.steps) == 1:
        yield (
            f"all traffic of a wave moves at once, so nothing serves beside version {record.canary}"
            f": its errors and p95 are judged by the last hour of version {record.stable}, and a "
            "bad hour of the region counts against it; a step below 100 % compares both"
        )
    model = lookup.model(state, record.spec.model)
    old, new = (lookup.version(model, n).package for n in (record.stable, record.canary))
    for words in differences(old, new):
        yield f"clients will notice: {words}"
