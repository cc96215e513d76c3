"""Which versions of a model a cluster shall have, and why not, in words.

Input: a Wish (a deployment with its versions looked up) and a cluster's Room. Output: the versions
to assign there. `choosing` says which clusters a wish is for, `settle` applies it to the State.

Adding is careful, removing is more careful. A version is added only where it fits besides all that
is there, so during a change the old and the new one need room at once. A version that is no longer
wanted goes only after its successor is warm, so that there is never a gap; one that may not run
there any more goes at once. Nothing ever goes because contact was lost, or because there is less
room than before.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from federation.contract.capacity import Resources
from federation.contract.resources import ClusterSpec, DeploymentSpec, PrefetchSpec
from federation.contract.scaling import ScalingMode
from federation.contract.types import AssignedVersion, EngineKind, Runtime, Scheduling, Urgency
from federation.policy import lookup
from federation.policy.records import (
    ClusterRecord,
    DeploymentRecord,
    ModelRecord,
    VersionRecord,
)
from federation.policy.rollouts.placing import Canary
from federation.policy.rooms import PRICE_LABEL, Room, price_of
from federation.policy.standing import reserved

RUNTIMES: dict[EngineKind, frozenset[Runtime]] = {
    EngineKind.TRITON: frozenset({Runtime.ONNX, Runtime.PYTHON, Runtime.TRITON}),
    EngineKind.RAY_SERVE: frozenset({Runtime.ONNX, Runtime.PYTHON, Runtime.RAY_SERVE}),
    EngineKind.STATIC: frozenset(),
    EngineKind.UNKNOWN: frozenset(),
}


class Fit(StrEnum):
    """Whether a version may be at a cluster."""

    FITS = "fits"  # may be given to it
    KEEPS = "keeps"  # stays if it is there, is not given anew
    BARRED = "barred"  # must not be there


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A fit and, unless it FITS, the reason in words that complete "cluster X cannot: ..."."""

    fit: Fit
    reason: str = ""


_FITS = Verdict(fit=Fit.FITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A deployment with its versions looked up. `wanted` holds the target, the pinned ones and the
    canary of a rollout, which is for some clusters only; `urgency` is that of the target; `apart`
    are the models that must not be where it is. `asleep`: nobody uses it, so it only lies ready."""

    spec: DeploymentSpec
    target: int
    urgency: Urgency = Urgency.NORMAL
    wanted: Mapping[int, VersionRecord]
    versions: Mapping[int, VersionRecord]  # all of the model
    apart: frozenset[str] = frozenset()
    asleep: bool = False
    canary: Canary | None = None
    _judged: dict[tuple[str, int], tuple[Room, int, Verdict]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    _orders: dict[bool, tuple[int, ...]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    _told: dict[int, AssignedVersion] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def is_plain(self) -> bool:
        """Whether it wants nothing but its target."""
        return len(self.wanted) == 1 and self.canary is None

    def wanted_at(self, cluster: str) -> tuple[int, ...]:
        """Return the versions that a chosen cluster shall have, the target first."""
        canary = self.canary
        here = canary is None or cluster in canary.at or canary.version in self.spec.pinned_versions
        if (found := self._orders.get(here)) is None:
            wanted = (n for n in self.wanted if here or canary is None or n != canary.version)
            found = tuple(sorted(wanted, key=lambda each: (each != self.target, each)))
            self._orders[here] = found
        return found

    def assigned(self, version: int) -> AssignedVersion:
        """Return what a cluster is told about one of the wanted versions: with the fewest replicas,
        if their number is not fixed."""
        if (told := self._told.get(version)) is not None:
            return told
        scaling = self.spec.scaling
        fixed = scaling.mode is ScalingMode.FIXED
        canary = self.canary
        urgent = canary is not None and canary.urgent and canary.version == version
        told = self._told[version] = AssignedVersion(
            model=self.spec.model,
            version=version,
            digest=self.wanted[version].digest,
            replicas=0 if self.asleep else self.spec.replicas if fixed else scaling.least,
            max_replicas=scaling.max if scaling.mode is ScalingMode.ENGINE else 0,
            stage_only=self.asleep,
            urgency=Urgency.ROLLBACK if urgent else Urgency.NORMAL,
            needs=self.needs(version),
            golden_every_s=self.golden_every_s(version),
        )
        return told

    def golden_every_s(self, version: int) -> int:
        """Return how often the golden inputs of a version are asked again; 0 = never."""
        canary = self.canary
        return canary.golden_every_s if canary and canary.version == version else 0

    def needs(self, version: int) -> Resources:
        """Return what a replica of one of the wanted versions needs."""
        return self.spec.resources or self.wanted[version].package.resources


def wish_of(
    deployment: DeploymentRecord,
    model: ModelRecord,
    apart: frozenset[str] = frozenset(),
    canary: Canary | None = None,
) -> Wish:
    """Look up the versions that a deployment names; raises NotFound or Invalid if one is gone."""
    spec = deployment.spec
    target = deployment.target or lookup.resolve(model, spec.version)
    second = (canary.version,) if canary and not canary.withdrawn else ()
    numbers = sorted({target, *spec.pinned_versions, *second})
    return Wish(
        spec=spec,
        target=target,
        urgency=deployment.urgency,
        wanted={number: lookup.version(model, number) for number in numbers},
        versions={v.version: v for v in model.versions},
        apart=apart,
        asleep=deployment.asleep,
        canary=canary,
    )


def not_selected(spec: DeploymentSpec | PrefetchSpec, cluster: ClusterSpec) -> str:
    """Return why a wish does not choose this cluster, in words; empty if it does."""
    if spec.regions and cluster.region not in spec.regions:
        return f"its region {cluster.region!r} is not one of {', '.join(spec.regions)}"
    residency = spec.residency if isinstance(spec, DeploymentSpec) else ()
    if residency and cluster.region not in residency:
        return f"its region {cluster.region!r} is outside of the residency"
    for key, value in spec.cluster_labels.items():
        if cluster.labels.get(key) != value:
            return f"its label {key!r} is not {value!r}"
    return ""


def unsuited(spec: DeploymentSpec, cluster: ClusterRecord) -> str:
    """Return why a selected cluster is not of the kind that the deployment asks for, in words."""
    engine = cluster.last.engine if cluster.last else EngineKind.UNKNOWN
    if spec.engine and engine not in (EngineKind.UNKNOWN, spec.engine):
        return f"its engine is {engine}, the deployment asks for {spec.engine}"
    if limit := spec.max_price_per_gpu_hour:
        price = price_of(cluster.spec.labels)
        if price is None:
            words = f"its label {PRICE_LABEL!r} tells no price"
            return f"{words}, the deployment pays {limit:g} at most"
        if price > limit:
            return f"a GPU costs {price:g} an hour there, the deployment pays {limit:g} at most"
    return ""


def asked_of(wish: Wish, room: Room, number: int) -> AssignedVersion:
    """Return what a cluster would be told if it had room for all: where replicas follow the load,
    as many as it asks for. A new version begins with as many as its predecessor has there."""
    wanted, scaling = wish.assigned(number), wish.spec.scaling
    if wanted.max_replicas and room.engine is not EngineKind.RAY_SERVE:
        return replace(wanted, max_replicas=0)  # no other engine has an autoscaler
    if wish.asleep or scaling.mode is not ScalingMode.AUTO:
        return wanted
    asked = room.asked(wish.spec.model, number)
    if asked is None:
        there = room.serving(wish.spec.model)
        those = [there[number]] if number in there else there.values()
        asked = max((held.replicas for held in those), default=0)
    elif wish.canary and (held := room.serving(wish.spec.model).get(number)):
        asked = max(asked, held.replicas)  # traffic moves between two versions: neither shrinks
    return replace(wanted, replicas=scaling.within(asked))


def sized(wish: Wish, room: Room, number: int) -> AssignedVersion:
    """Return the same with as many replicas as have room, but not less than there are: nothing
    goes for lack of room."""
    asked = asked_of(wish, room, number)
    if wish.asleep or wish.spec.scaling.mode is not ScalingMode.AUTO:
        return asked
    held = room.serving(wish.spec.model).get(number)
    least = wish.spec.scaling.least
    if held is not None and held.needs == asked.needs:
        least = held.replicas
    if asked.replicas <= least or room.takes(asked):
        return asked
    return replace(asked, replicas=room.most(asked, least))


def judge(wish: Wish, room: Room, number: int, *, tell: bool = True) -> Verdict:
    """Decide whether one of the wanted versions may be at a cluster that the deployment selects.

    Without `tell` the reason may be short.
    """
    key = (room.name, number)
    known = wish._judged.get(key)
    same = known is not None and known[0] is room and known[1] == room.changes
    if known and same and (not tell or known[2].fit is Fit.FITS):
        return known[2]
    verdict = _judged(wish, room, number, tell=tell)
    wish._judged[key] = (room, room.changes, verdict)
    return verdict


def _judged(wish: Wish, room: Room, number: int, *, tell: bool) -> Verdict:
    record, wanted = wish.wanted[number], sized(wish, room, number)
    if reason := _barred(room, record):
        return Verdict(fit=Fit.BARRED, reason=reason)
    if wish.asleep:
        return _judge_asleep(wish, room, number)
    if reason := room.blocked or (room.stale if wanted.needs.gpus else ""):
        return Verdict(fit=Fit.KEEPS, reason=reason)
    held = room.serving(wish.spec.model).get(number)
    reason = "" if held else _apart(wish, room) or room.lacks_disk(record, wish.spec.model)
    if reason:
        return Verdict(fit=Fit.KEEPS, reason=reason)
    # What is counted already stays: nothing goes for lack of room.
    counted = held and held.needs == wanted.needs and reserved(held) >= reserved(wanted)
    if not counted and not room.takes(wanted):
        reason = _room_words(wish, room, wanted) if tell else "no room"
        return Verdict(fit=Fit.KEEPS, reason=reason)
    return _FITS


def _judge_asleep(wish: Wish, room: Room, number: int) -> Verdict:
    """A version that is there may lie ready instead; GPUs do not count."""
    model = wish.spec.model
    if number in room.serving(model) and room.record.scheduling is Scheduling.DRAINING:
        return Verdict(fit=Fit.KEEPS, reason="it is draining: what it has loaded stays loaded")
    if any(held.version == number for held in room.held(model)):
        return _FITS
    return judge_staging(room, wish.wanted[number], model)


def judge_staging(room: Room, version: VersionRecord, model: str) -> Verdict:
    """Decide whether the bytes of a version may lie ready at a cluster; GPUs do not count."""
    if reason := _barred(room, version):
        return Verdict(fit=Fit.BARRED, reason=reason)
    if reason := room.blocked or room.lacks_disk(version, model):
        return Verdict(fit=Fit.KEEPS, reason=reason)
    return _FITS


def _barred(room: Room, version: VersionRecord) -> str:
    package = version.package
    if (version.carries_code or package.carries_code) and not room.record.spec.allow_code:
        return (
            f"version {version.version} carries code (runtime {package.runtime}), which this "
            "cluster does not allow; set allow_code in its spec to allow it"
        )
    engine = room.engine
    if engine is EngineKind.STATIC:
        return "its engine is static: the agent only shows what someone else loads"
    if engine is not EngineKind.UNKNOWN and package.runtime not in RUNTIMES[engine]:
        return f"its engine {engine} cannot run packages of runtime {package.runtime}"
    return ""


def _apart(wish: Wish, room: Room) -> str:
    for model in sorted(wish.apart):
        if room.serves(model):
            return f"model {model!r} is there, and the two must be apart"
    return ""


def _room_words(wish: Wish, room: Room, wanted: AssignedVersion) -> str:
    """Why there is no room, and whether it is a predecessor that holds it."""
    words = room.lacks(wanted)
    others = [v for v in room.held(wish.spec.model) if v.version != wanted.version]
    holds = [str(v.version) for v in others if v.needs.gpus and not v.stage_only]
    if not holds:
        return words
    return (
        f"{words}; version {', '.join(holds)} stays until version {wish.target} is warm, so both "
        "need room at once"
    )


def is_settled(wish: Wish, room: Room, ahead: Collection[int] = ()) -> bool:
    """Whether it is plain that nothing changes at a chosen cluster: the short way round `place`.

    `ahead` are the versions that shall lie ready there.
    """
    if ahead or not wish.is_plain:
        return _all_settled(wish, room, ahead)
    held, needs = room.held(wish.spec.model), wish.needs(wish.target)
    if wish.asleep:
        return held == (wish.assigned(wish.target),) and not is_barred(wish, room, wish.target)
    if not held:
        wanted = wish.assigned(wish.target)
        least = reserved(wanted) if room.engine is EngineKind.RAY_SERVE else wanted.replicas
        return room.refuses(needs, least)
    return (
        len(held) == 1
        and held[0].version == wish.target
        and not held[0].stage_only
        and not held[0].golden_every_s
        and _as_asked(wish, room, held[0])
        and (held[0].needs is needs or held[0].needs == needs)
        and not is_barred(wish, room, wish.target)
    )


def _all_settled(wish: Wish, room: Room, ahead: Collection[int]) -> bool:
    """The same while a rollout goes on, or versions are pinned or lie ready."""
    held, wanted = room.held(wish.spec.model), wish.wanted_at(room.name)
    ready = [number for number in ahead if number not in wanted]
    if wish.asleep or wish.urgency is Urgency.ROLLBACK or len(held) != len(wanted) + len(ready):
        return False
    for version in held:
        number = version.version
        if is_barred(wish, room, number):
            return False
        if number in ready:
            if not version.stage_only or version.urgency is not Urgency.PREFETCH:
                return False
        elif (
            number not in wanted
            or version.stage_only
            or not _as_asked(wish, room, version)
            or version.needs != wish.needs(number)
            or version.golden_every_s != wish.golden_every_s(number)
        ):
            return False
    return True


def _as_asked(wish: Wish, room: Room, held: AssignedVersion) -> bool:
    if wish.spec.scaling.mode is ScalingMode.FIXED:  # quickly: this is asked most often
        return held.replicas == wish.spec.replicas and not held.max_replicas
    return _same_number(held, asked_of(wish, room, held.version))


def _same_number(held: AssignedVersion, wanted: AssignedVersion) -> bool:
    return (held.replicas, held.max_replicas) == (wanted.replicas, wanted.max_replicas)


def is_barred(wish: Wish, room: Room, number: int) -> bool:
    """Whether a version of the wish's model must not be at a cluster."""
    record = wish.versions.get(number)
    return record is None or bool(_barred(room, record))


def reasons(wish: Wish, room: Room) -> tuple[str, ...]:
    """Return in words why a selected cluster does not get versions that the deployment wants, or
    not as it wants them."""
    has = room.serving(wish.spec.model)
    told = []
    for number in wish.wanted_at(room.name):
        held, wanted = has.get(number), asked_of(wish, room, number)
        reason = judge(wish, room, number).reason
        if not reason and held is not None and reserved(held) < reserved(wanted):
            reason = room.lacks(wanted)  # fewer than the load asks for have room
        if not reason:
            continue
        if held is None:
            told.append(reason)
        elif not _same_number(held, wanted) or held.needs != wanted.needs:
            stays = f"at {held.replicas} of {wanted.replicas} replicas"
            if held.replicas == wanted.replicas:
                stays = "with the resources that it has"
            told.append(f"version {number} stays {stays}: {reason}")
    return tuple(dict.fromkeys(told))
