"""After any event: bring assignments and default versions in line with the wishes.

Input: the Step of an event whose own change is done, and the models that it touched. Output:
records and commands in that Step. Settling twice without news in between changes nothing the
second time.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from federation.contract.scaling import ScalingMode
from federation.contract.types import AssignedVersion, Urgency
from federation.policy.assigning import Versions, assign, kept
from federation.policy.choosing import choose, matches
from federation.policy.giving import place
from federation.policy.lookup import resolve
from federation.policy.placement import Wish, is_settled, sized, wish_of
from federation.policy.records import ClusterRecord, DeploymentRecord
from federation.policy.rollouts.following import follows
from federation.policy.rollouts.placing import canary_of
from federation.policy.rooms import Room, Rooms
from federation.policy.routing import choose_version
from federation.policy.settled import Known
from federation.policy.standing import (
    apart,
    assigned_versions,
    is_routable,
    is_up_to_date,
    is_warm,
    keeps_room,
    reserved,
    warm_versions,
)
from federation.policy.state import State, Step
from federation.policy.sync.staging import Staging, stage, stagings

ByModel = dict[str, Versions]
_SERVED = 16  # versions that a deployment remembers to have been routed to
SLICE = 4  # models that are settled with one batch of events
_ALL = frozenset({"*"})  # no model is called so


def settle_later(step: Step, models: Iterable[str] | None = None) -> None:
    """Have `models` (None = all) settled once for all events that are decided together.

    Agents tell of a thousand small changes a second after a restart of the control plane.
    """
    step.state.unsettled |= _ALL if models is None else frozenset(models)


def settle_pending(step: Step, later: frozenset[str] = frozenset(), *, done: int = 0) -> int:
    """Settle what was put off: all of it, or some models now and the others with the next batch of
    events, so that a batch does not take long however many rollouts go on. Models that something
    happens to with this batch wait until `later`; `done` were settled with it already. Returns how
    many are now."""
    state, models = step.state, step.state.unsettled
    if models >= _ALL:
        state.unsettled = frozenset()
        settle(step)
    elif now := frozenset(sorted(models - later)[: max(SLICE - done, 0)]):
        state.unsettled, done = models - now, done + len(now)
        settle(step, now)
    if state.unsettled - later:
        step.wake_at(step.now)
    return done


def settle(step: Step, models: Iterable[str] | None = None) -> None:
    """Recompute what follows from the wishes for `models` (None = for all).

    Where something goes, there is room for models that had none: they are looked at as well.
    """
    state = step.state
    only = None if models is None else set(models)
    _note_targets(step, only)
    wishes, staged = wishes_of(state), stagings(state, only)
    rooms, whole = Rooms(state), only is None
    if only is None:
        only = wishes.keys() | staged.keys() | rooms.models()
    affected = only
    seen = set(affected)
    while affected:
        changes: dict[str, ByModel] = {}
        for model in sorted(affected):
            wanted = _Wanted(model, wishes.get(model), staged.get(model, ()))
            for cluster, versions in _placed(rooms, wanted).items():
                changes.setdefault(cluster, {})[model] = versions
        freed = [name for name, new in changes.items() if _frees(state.clusters[name], new)]
        if freed and not whole:
            staged = stagings(state)  # what waits for room may be of any model
        for cluster in sorted(changes):
            assign(step, state.clusters[cluster], changes[cluster])
            rooms.renew(cluster)
        affected = {m for name in freed for m in _waiting(rooms, name, wishes, staged)}
        seen |= affected
    for model in sorted(seen & wishes.keys()):
        at = rooms.holders(model) if whole else state.clusters
        _route(step, wishes.deployment(model), wishes[model], at)
    step.publish()


class Wishes(Mapping[str, Wish]):
    """The wish for each deployed model, looked up when somebody asks for it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._names = {d.spec.model: name for name, d in state.deployments.items()}
        self._apart = apart(state)
        self._known: dict[str, Wish] = {}

    def __getitem__(self, model: str) -> Wish:
        if (found := self._known.get(model)) is None:
            deployment = self._state.deployments[self._names[model]]
            others = self._apart.get(model, frozenset())
            canary = canary_of(self._state, model)
            found = wish_of(deployment, self._state.models[model], others, canary)
            self._known[model] = found
        return found

    def deployment(self, model: str) -> str:
        """Return the name of the deployment of a model."""
        return self._names[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def wishes_of(state: State) -> Wishes:
    """Return the wish for each deployed model."""
    return Wishes(state)


def wish_in(state: State, deployment: DeploymentRecord) -> Wish:
    """Return the wish of one deployment."""
    model = deployment.spec.model
    others = apart(state).get(model, frozenset())
    return wish_of(deployment, state.models[model], others, canary_of(state, model))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """All that is wished of one model."""

    model: str
    wish: Wish | None
    staged: tuple[Staging, ...]


def _frees(record: ClusterRecord, changes: ByModel) -> bool:
    """Whether something goes from a cluster, or becomes less."""
    for model, versions in changes.items():
        new = {v.version: v for v in versions}
        for held in assigned_versions(record, model):
            kept = new.get(held.version)
            if kept is None or (keeps_room(held) and _has_less(kept, held)):
                return True
    return False


def _has_less(new: AssignedVersion, old: AssignedVersion) -> bool:
    return not keeps_room(new) or reserved(new) < reserved(old) or new.needs != old.needs


def _differs(held: AssignedVersion, wanted: AssignedVersion) -> bool:
    return (held.replicas, held.max_replicas, held.needs) != (
        wanted.replicas,
        wanted.max_replicas,
        wanted.needs,
    )


def _waiting(
    rooms: Rooms,
    name: str,
    wishes: Mapping[str, Wish],
    staged: Mapping[str, tuple[Staging, ...]],
) -> Iterator[str]:
    """Yield the models that may want something of a cluster that has more room now."""
    room = rooms[name]
    for model, wish in wishes.items():
        held = room.asleep(model) | room.serving(model)
        if matches(wish, room) and any(
            number not in held or _differs(held[number], sized(wish, room, number))
            for number in wish.wanted_at(name)
        ):
            yield model
    for model, wanted in staged.items():
        numbers = {v.version for v in room.held(model)}
        if any(s.version.version not in numbers and s.selects(room.record) for s in wanted):
            yield model


def _note_targets(step: Step, models: set[str] | None) -> None:
    """Keep in each deployment which version it means now, and how urgent the last move was."""
    for name, record in list(step.state.deployments.items()):
        model = record.spec.model
        if models is not None and model not in models:
            continue
        target = resolve(step.state.models[model], record.spec.version)
        if follows(step, record, target):
            continue
        record = step.state.deployments[name]
        new = retargeted(record, target)
        step.put("Deployment", replace(new, meta=step.next_meta(record.meta)))
        if new.urgency is Urgency.ROLLBACK:
            message = (
                f"deployment {name!r} goes back to version {target} of model {model!r} "
                f"(before: {record.target})."
            )
            step.audit("Deployment", name, "RollbackStarted", message)


def retargeted(record: DeploymentRecord, target: int) -> DeploymentRecord:
    """Return the record with another target; back to an older or a proven version is urgent.

    It is awake then: what was never loaded is not proven.
    """
    back = 0 < target < record.target or (record.target > 0 and target in record.served)
    urgency = Urgency.ROLLBACK if back else Urgency.NORMAL
    return replace(record, target=target, urgency=urgency, asleep_since=None)


def _placed(rooms: Rooms, wanted: _Wanted) -> ByModel:
    """Return, by cluster, the versions of one model where they differ from what is assigned."""
    wish, model, state = wanted.wish, wanted.model, rooms.state
    known = _known(state, wanted)
    unsure = known.unsure(state.clusters) if known is not None else None
    if unsure == []:
        return {}
    chosen = choose(wish, rooms) if wish else set()
    warmth = _Warmth(state, wish, chosen) if wish else None
    changed: ByModel = {}
    for name in sorted(_concerned(rooms, wanted, chosen, unsure)):
        room = rooms[name]
        ahead = {s.version.version for s in wanted.staged if s.selects(room.record)}
        if wish and name in chosen and is_settled(wish, room, ahead):
            if known is not None and room.held(model):
                known.note(room.record)
            continue  # the short way: it is as it shall be, or it is known that nothing can come
        current = assigned_versions(room.record, model)
        versions: tuple[AssignedVersion, ...] = ()
        if wish and warmth:
            versions = place(wish, room, chosen=name in chosen, warmth=warmth)
        if wanted.staged:
            served = {v.version for v in versions}
            ready = stage(wanted.staged, room, model, served)
            versions = tuple(sorted((*versions, *ready), key=lambda v: v.version))
        if versions != current:
            versions = changed[name] = kept(versions, current)
            rooms.give(name, model, versions)
        elif room.held(model) != current:
            rooms.give(name, model, current)  # `place` tried others, which come to nothing
    return changed


def _known(state: State, wanted: _Wanted) -> Known | None:
    """Return what is known of a rollout's model; None where it depends on more than single clusters
    and their assignments, or there is no rollout."""
    wish = wanted.wish
    if wish is None or wish.canary is None or wish.asleep or wish.spec.clusters:
        return None
    if wish.spec.scaling.mode is not ScalingMode.FIXED:
        return None
    state.settled.retain(state.going.keys())
    rest = wish.target, wish.urgency, wish.canary, wanted.staged
    return state.settled.of(wanted.model, Known(wish.spec, tuple(wish.wanted.values()), rest))


def _concerned(
    rooms: Rooms, wanted: _Wanted, chosen: Collection[str], unsure: list[str] | None
) -> Iterable[str]:
    """Return the clusters where something of a model is, or shall be; of those that it is `unsure`
    about, if these are known."""
    clusters, model = rooms.state.clusters, wanted.model
    if unsure is not None:
        return [
            name
            for name in unsure
            if name in chosen
            or assigned_versions(clusters[name], model)
            or any(staging.selects(clusters[name]) for staging in wanted.staged)
        ]
    names = {*chosen, *rooms.holders(model)}
    for staging in wanted.staged:
        names |= {name for name, record in clusters.items() if staging.selects(record)}
    return names


class _Warmth:
    """Where versions of a wish are warm, looked up when somebody asks."""

    def __init__(self, state: State, wish: Wish, chosen: Collection[str]) -> None:
        self._state, self._wish, self._chosen = state, wish, chosen
        self._at: dict[int, set[str]] | None = None

    def here(self, room: Room, version: AssignedVersion) -> bool:
        """Whether a version is warm at this cluster."""
        return is_up_to_date(self._state, room.record) and is_warm(room.record, version)

    def known(self, room: Room) -> bool:
        """Whether the newest report of this cluster is about its newest assignment."""
        return is_up_to_date(self._state, room.record)

    def elsewhere(self, room: Room, number: int) -> bool:
        """Whether a wanted version is warm at another chosen cluster that is in contact."""
        if self._at is None:
            self._at = self._warm_at()
        return bool(self._at.get(number, set()) - {room.name})

    def _warm_at(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for name in self._chosen:
            record = self._state.clusters[name]
            if is_routable(record) and is_up_to_date(self._state, record):
                for assigned in warm_versions(record, self._wish.spec.model):
                    found.setdefault(assigned.version, set()).add(name)
        return found


def _route(step: Step, name: str, wish: Wish, at: Collection[str]) -> None:
    model, record = wish.spec.model, step.state.deployments[name]
    chosen = choose_version(step.state, wish, record.routed_version, at)
    if chosen == record.routed_version:
        return
    served = (*(v for v in record.served if v != chosen), chosen)[-_SERVED:]
    meta = step.next_meta(record.meta)
    step.put("Deployment", replace(record, meta=meta, routed_version=chosen, served=served))
    step.audit(
        "Deployment",
        record.meta.name,
        "DefaultVersionMoved",
        f"requests for model {model!r} that name no version go to version {chosen} now"
        + (f" (before: {record.routed_version})." if record.routed_version else "."),
    )
