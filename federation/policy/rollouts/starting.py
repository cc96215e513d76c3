"""How a rollout begins: what it means, and whether it may.

Input: a RolloutSpec and the State. Output: a Start, or the refusal, raised before anything changed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.names import did_you_mean
from federation.contract.rollout import RolloutSpec
from federation.contract.rollout_rules import check_strategy
from federation.policy import lookup
from federation.policy.analysis.limits import limits_of
from federation.policy.obstacles import Obstacle
from federation.policy.placement import Fit, Wish, judge, wish_of
from federation.policy.records import DeploymentRecord, ModelRecord
from federation.policy.rollouts.ongoing import look_at, moving, of_model, put, send_back
from federation.policy.rollouts.placing import Canary
from federation.policy.rollouts.records import Phase, RolloutRecord, WaveRecord
from federation.policy.rollouts.signatures import differences
from federation.policy.rollouts.table import Turn, first
from federation.policy.rollouts.waves import resolved
from federation.policy.rooms import Room, Rooms
from federation.policy.standing import apart, assigned_versions
from federation.policy.state import State, Step

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A rollout that may begin."""

    spec: RolloutSpec
    deployment: str
    stable: int
    canary: int
    waves: tuple[WaveRecord, ...]


def deployment_of(state: State, model: str) -> tuple[str, DeploymentRecord]:
    """Return the deployment of a model with its name; raises NotFound."""
    lookup.model(state, model)
    for name, record in state.deployments.items():
        if record.spec.model == model:
            return name, record
    deployed = [d.spec.model for d in state.deployments.values()]
    raise NotFound(
        f"model {model!r} is deployed nowhere, so nothing can be rolled out.",
        hint=f"Deploy it with: fed deploy {model} {did_you_mean(model, deployed)}".rstrip(),
        reason="not-deployed",
    )


def prepared(state: State, spec: RolloutSpec) -> Start:
    """Return what a rollout means now; raises Invalid, NotFound or Conflict if it must not be."""
    check_strategy(spec.strategy)
    if spec.strategy.analysis.enabled:
        limits_of(spec.strategy.analysis, bake_s=spec.strategy.bake_s)
    name, deployment = deployment_of(state, spec.model)
    model = state.models[spec.model]
    canary, stable = lookup.resolve(model, spec.version), deployment.target
    if canary == stable:
        raise Conflict(
            f"model {spec.model!r} is at version {stable} already.",
            hint=_versions_hint(model, stable),
            reason="already-there",
        )
    if not spec.strategy.allow_signature_change:
        _check_signature(model, stable, canary)
    going = moving(state, spec.model)  # in place, its canary may be where the stable one was
    there = {stable, going.canary} if going else {stable}
    clusters = {
        cluster: record.spec
        for cluster, record in state.clusters.items()
        if any(v.version in there for v in assigned_versions(record, spec.model))
    }
    waves = resolved(spec.strategy.waves, clusters, state.regions)
    start = Start(spec=spec, deployment=name, stable=stable, canary=canary, waves=waves)
    _check_room(start, list(no_room(state, start)))
    return start


def _versions_hint(model: ModelRecord, stable: int) -> str:
    others = ", ".join(str(v.version) for v in model.versions if v.version != stable)
    return f"Its other versions are: {others}." if others else "Push a new one first."


def _check_signature(model: ModelRecord, stable: int, canary: int) -> None:
    old, new = (lookup.version(model, number).package for number in (stable, canary))
    if told := differences(old, new):
        raise Invalid(
            f"version {canary} of model {model.meta.name!r} has another signature than version "
            f"{stable}: {'; '.join(told)}.",
            hint="Clients that name no version would get answers of another kind. If they are "
            "ready for it, allow it: --allow-signature-change",
            reason="signature-changed",
        )


def no_room(state: State, start: Start) -> Iterator[Obstacle]:
    """Yield the clusters that cannot have the canary, in the order of the waves, and why.

    Clusters that get nothing new now (cordoned, draining, not joined) are passed over: they keep
    what they have.
    """
    deployment = state.deployments[start.deployment]
    names = [name for wave in start.waves for name in wave.clusters]
    canary = Canary(version=start.canary, at=frozenset(names))
    others = apart(state).get(start.spec.model, frozenset())
    wish = wish_of(deployment, state.models[start.spec.model], others, canary)
    wish = replace(wish, asleep=False)
    gone = {start.stable} if start.spec.strategy.in_place else set()
    if (old := moving(state, start.spec.model)) is not None and old.canary != start.canary:
        gone.add(old.canary)
    rooms = Rooms(state)
    for name in names:
        room = rooms[name]
        if room.blocked:
            continue
        if old is not None and not start.spec.strategy.in_place:
            _give_back(room, wish, old.canary)
        verdict = judge(wish, room, start.canary)
        if verdict.fit is not Fit.FITS and gone:
            _free(room, start.spec.model, gone)
            verdict = judge(wish, room, start.canary)
        if verdict.fit is not Fit.FITS:
            yield Obstacle(cluster=name, region=room.region, reason=verdict.reason)


def _give_back(room: Room, wish: Wish, canary: int) -> None:
    """Look at a cluster as it will be when a rollout in place, which goes on, has gone back."""
    held = room.held(wish.spec.model)
    if all(v.version != wish.target for v in held) and any(v.version == canary for v in held):
        rest = (v for v in held if v.version != canary)
        room.give(wish.spec.model, (*rest, wish.assigned(wish.target)))


def _free(room: Room, model: str, gone: set[int]) -> None:
    room.give(model, tuple(v for v in room.held(model) if v.version not in gone))


def _check_room(start: Start, lacking: list[Obstacle]) -> None:
    if not lacking:
        return
    shown = "; ".join(f"{each.cluster} ({each.reason})" for each in lacking[:_SHOWN])
    more = f"; and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
    in_place = start.spec.strategy.in_place
    raise Conflict(
        f"version {start.canary} of model {start.spec.model!r} has no room"
        f"{'' if in_place else f' besides version {start.stable}'} at {shown}{more}.",
        hint="Make room there, or leave these clusters out of the deployment."
        if in_place
        else "Make room there, or roll out in place (--in-place): the old version goes first, and "
        "its clusters serve nothing until the new one is warm.",
        reason="no-room",
    )


def begin(step: Step, start: Start, *, why: str, name: str = "", undo: bool = False) -> str:
    """Remember a new rollout, which takes the place of those that go on; returns its name."""
    name = name or new_name(step.state, start.spec.model)
    supersede(step, start.spec.model, f"rollout {name!r} takes its place", by=name)
    record = RolloutRecord(
        meta=step.new_meta(name),
        spec=start.spec,
        deployment=start.deployment,
        stable=start.stable,
        canary=start.canary,
        started_by=step.actor,
        why=why,
        since=step.now,
        reason="it begins when its turn comes",
        waves=start.waves,
        undo=undo,
    )
    put(step, first(record, Turn.ACCEPTED, step.now, step.actor))
    look_at(step, name, step.now)
    words = (
        f"rollout {name!r} of model {start.spec.model!r} from version {start.stable} to "
        f"{start.canary} in {len(start.waves)} waves was asked for{f': {why}' if why else '.'}"
    )
    step.audit("Rollout", name, "RolloutAccepted", words)
    return name


def refuse(step: Step, spec: RolloutSpec, reason: str) -> str:
    """Remember a rollout that was to begin by itself and must not; returns its name."""
    state, name = step.state, new_name(step.state, spec.model)
    deployment, held = deployment_of(state, spec.model)
    record = RolloutRecord(
        meta=step.new_meta(name),
        spec=spec,
        deployment=deployment,
        stable=held.target,
        canary=lookup.resolve(state.models[spec.model], spec.version),
        started_by=step.actor,
        since=step.now,
        reason=reason,
    )
    put(step, first(record, Turn.REFUSED, step.now, step.actor))
    step.audit("Rollout", name, "RolloutRefused", f"rollout {name!r} cannot begin: {reason}")
    return name


def supersede(step: Step, model: str, reason: str, *, by: str = "") -> None:
    """Send the rollouts of a model that go on back to the stable version, in order."""
    for record in of_model(step.state, model):
        if record.phase is not Phase.ROLLING_BACK:
            send_back(step, record, Turn.SUPERSEDED, reason, superseded_by=by)


def new_name(state: State, model: str) -> str:
    """Return a name for the next rollout of a model: "shakespeare-3"."""
    stem = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:50] or "rollout"
    pattern = re.compile(rf"{re.escape(stem)}-(\d+)")
    numbers = [int(m[1]) for name in state.rollouts if (m := pattern.fullmatch(name))]
    return f"{stem}-{max(numbers, default=0) + 1}"
