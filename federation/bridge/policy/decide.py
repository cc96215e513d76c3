"""What to do next about one custom resource, so that the control plane comes to be as it says.

Input: the custom resource, what is known of the control plane's object of that name, the time.
Output: one command, or None when there is nothing to do. The shell performs it, adds to the facts
what came of it, and asks again; it may forget everything but the custom resource at any time.

An object is ours if its time of creation is the one that we noted in the custom resource's status.
Before we make one we note a claim; the creation goes under a key made of it (and only if there is
no object of that name), so that after a crash the same call tells whether the object was made by
us. Anything else of the same name is somebody else's: it is neither changed nor deleted, unless an
annotation hands it over.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from federation.bridge.policy.custom import (
    ADOPT,
    CLUSTER,
    DEPLOYMENT,
    FINALIZER,
    ROLLOUT,
    Custom,
    spec_of,
)
from federation.bridge.policy.status import Trouble, status_of
from federation.cli.documents import Json, live_spec, look
from federation.contract.errors import Invalid
from federation.contract.resources import DeploymentSpec

VERBS = {"active": "uncordon", "cordoned": "cordon", "draining": "drain"}
NOT_OURS = "NotOwned"
OVER = ("promoted", "rolled-back", "failed")
CREATING = Trouble("Creating", "it is being made")
GONE = Trouble("Gone", "the control plane has it no more; what was rolled out once is not again")
ABORTING = Trouble("Aborting", "it goes back, and is let go of when that is done")
CHANGING = Trouble("Changing", "the control plane is being told")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of the control plane's object. `proven` is a claim under which it was made,
    `refuted` one under which it was not. `trouble` is what the last try met."""

    live: Json | None = None
    proven: str = ""
    refuted: str = ""
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class SetFinalizers:
    """Write these finalizers."""

    finalizers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Write this status."""

    status: Json


@dataclass(frozen=True, slots=True)
class Create:
    """Make the object if there is none of that name, or tell whether we did so under this key."""

    claim: str
    key: str
    spec: object


@dataclass(frozen=True, slots=True)
class Change:
    """Give the object this spec if it is still at this resource version."""

    spec: object
    expected: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Cordon, uncordon or drain the cluster."""

    verb: str


@dataclass(frozen=True, slots=True)
class Steer:
    """Pause, resume or abort the rollout."""

    verb: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete the object if it is still at this resource version."""

    expected: int


Command = SetFinalizers | Note | Create | Change | Schedule | Steer | Remove


def decide(custom: Custom, facts: Facts, now: datetime) -> Command | None:
    """Return the next step; None = all is as it shall be, or nothing can be done now."""
    if custom.deleting:
        return _deletion(custom, facts, now)
    if facts.trouble is not None:
        return _note(custom, facts, now, facts.trouble)
    if FINALIZER not in custom.finalizers:
        return SetFinalizers((*custom.finalizers, FINALIZER))
    try:
        return _existence(custom, facts, now, spec_of(custom))
    except Invalid as error:
        return _note(custom, facts, now, Trouble("InvalidSpec", error.sentence()))


def _existence(custom: Custom, facts: Facts, now: datetime, spec: object) -> Command | None:
    """Do what comes before the object is ours; raises Invalid."""
    live = facts.live
    if custom.claim:
        return _claimed(custom, facts, now, spec)
    if live is None and custom.bridged is ROLLOUT and custom.created_at:
        return _forgotten(custom, facts, now)
    if live is None:
        claim, old = custom.version, custom.created_at
        return Note(status_of(custom, None, CREATING, now=now, claim=claim, created_at=old))
    if custom.created_at != _created_at(live):
        if not custom.adopt:
            return _note(custom, facts, now, _not_ours(custom))
        return Note(status_of(custom, live, CHANGING, now=now, created_at=_created_at(live)))
    return _difference(custom, spec, live) or _note(custom, facts, now, None)


def _forgotten(custom: Custom, facts: Facts, now: datetime) -> Command | None:
    """A rollout that was made is never made again: its version may be an old one by now."""
    return None if custom.status.get("phase") in OVER else _note(custom, facts, now, GONE)


def _claimed(custom: Custom, facts: Facts, now: datetime, spec: object) -> Command:
    live, old = facts.live, custom.created_at
    if custom.claim not in (facts.proven, facts.refuted):
        return _create(custom, spec)
    if live is None:  # made, and gone again
        return Note(status_of(custom, None, CREATING, now=now, created_at=old))
    if not _is_ours(custom, facts):
        return Note(status_of(custom, None, _not_ours(custom), now=now, created_at=old))
    told = CHANGING if _difference(custom, spec, live) else None
    return Note(status_of(custom, live, told, now=now, created_at=_created_at(live)))


def _create(custom: Custom, spec: object) -> Create:
    return Create(custom.claim, f"fed-bridge.{custom.uid}.{custom.claim}", spec)


def _difference(custom: Custom, spec: object, live: Json) -> Change | Schedule | Steer | None:
    """Return what makes our object as it shall be; raises Invalid."""
    held = live_spec(custom.bridged.kind, live)
    if custom.bridged is DEPLOYMENT and "version" not in custom.spec:
        spec = _at_version_of(held, spec)  # rollouts decide which
    if held != spec:
        return Change(spec, _version(live))
    if custom.bridged is ROLLOUT:
        return _steering(custom, live)
    wanted = custom.scheduling if custom.bridged is CLUSTER else ""
    if wanted and look(live, "status", "scheduling") != wanted:
        return Schedule(VERBS.get(wanted, wanted))
    return None


def _at_version_of(held: object, spec: object) -> object:
    if isinstance(held, DeploymentSpec) and isinstance(spec, DeploymentSpec):
        return replace(spec, version=held.version)
    return spec


def _steering(custom: Custom, live: Json) -> Steer | None:
    """Return what pauses a rollout that shall be paused, or lets it go on."""
    phase, pause = look(live, "status", "phase"), look(live, "status", "pause")
    if custom.paused is None or phase in (*OVER, "rolling-back"):
        return None
    held = phase == "paused" and pause == "manual"
    if custom.paused is held:
        return None
    return Steer("pause" if custom.paused else "resume")


def _deletion(custom: Custom, facts: Facts, now: datetime) -> Command | None:
    """The control plane's object goes first, and only if it is ours."""
    if FINALIZER not in custom.finalizers:
        return None
    nothing_made = not (custom.claim or custom.created_at)
    release = SetFinalizers(tuple(each for each in custom.finalizers if each != FINALIZER))
    if custom.keep or nothing_made:
        return release
    if facts.trouble is not None:
        return _note(custom, facts, now, facts.trouble)
    return _removal(custom, facts, now, release) if facts.live is not None else release


def _removal(custom: Custom, facts: Facts, now: datetime, release: Command) -> Command | None:
    """Remove the control plane's object if it is ours, else let go."""
    if custom.claim and custom.claim not in (facts.proven, facts.refuted):
        return _resolution(custom, facts, now)
    if not _is_ours(custom, facts):
        return release
    if custom.bridged is ROLLOUT:
        return _ending(custom, facts, now, release)
    return Remove(_version(facts.live or {}))


def _ending(custom: Custom, facts: Facts, now: datetime, release: Command) -> Command | None:
    """A rollout that goes on goes back first; what is over stays in the history of its model."""
    phase = look(facts.live, "status", "phase")
    if phase in OVER:
        return release
    return _note(custom, facts, now, ABORTING) if phase == "rolling-back" else Steer("abort")


def _resolution(custom: Custom, facts: Facts, now: datetime) -> Command | None:
    """Ask whose the object is: as there is one already, this call makes none."""
    try:
        return _create(custom, spec_of(custom))
    except Invalid as error:
        return _note(custom, facts, now, Trouble("InvalidSpec", error.sentence()))


def _is_ours(custom: Custom, facts: Facts) -> bool:
    if custom.claim and facts.proven == custom.claim:
        return True
    return facts.live is not None and custom.created_at == _created_at(facts.live)


# ------------------------------------------------------------ small parts


def _note(custom: Custom, facts: Facts, now: datetime, trouble: Trouble | None) -> Note | None:
    """Return the status to write, None if it stands there already."""
    owned = facts.live is not None and custom.created_at == _created_at(facts.live)
    hidden = not owned or (trouble is not None and trouble.silent)
    status = status_of(
        custom,
        None if hidden else facts.live,
        trouble,
        now=now,
        claim=custom.claim,
        created_at=custom.created_at,
    )
    return Note(status) if status != custom.status else None


def _not_ours(custom: Custom) -> Trouble:
    kind = custom.bridged.kind.name.lower()
    return Trouble(
        NOT_OURS,
        f"the control plane has a {kind} {custom.name!r} that the bridge did not make: it is left "
        f'alone. To take it over, set the annotation {ADOPT}: "true".',
    )


def _created_at(live: Json) -> str:
    return str(look(live, "metadata", "createdAt") or "")


def _version(live: Json) -> int:
    version = look(live, "metadata", "resourceVersion")
    return version if isinstance(version, int) else 0
