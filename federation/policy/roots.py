"""How a root of trust comes and goes without a moment in which somebody is refused.

Input: the roots with their phases, the time, and how long a leaf lasts at most. Output: the roots
as they shall be, and when to look again. `federation.identity.rollover` keeps them.

A new root is told to everyone for one leaf's life before it signs: who was in contact in that time
trusts it. The old one is trusted for one leaf's life after it signed last: by then every
certificate was renewed. What is retired longer than an expired certificate may be renewed goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from federation.contract.errors import Conflict, InvalidTransition


class RootPhase(StrEnum):
    """What a root is good for."""

    PREPARED = "prepared"  # trusted by all, signs nothing yet
    ACTIVE = "active"  # trusted by all, signs everything; exactly one is
    RETIRING = "retiring"  # trusted by all, signs nothing any more
    RETIRED = "retired"  # trusted by nobody; tells only whose expired certificate asks for renewal


class RootStep(StrEnum):
    """What moves a root from one phase to the next."""

    MADE = "made"
    MADE_FIRST = "made first"
    ACTIVATED = "activated"
    SUPERSEDED = "superseded"
    OUTLIVED = "outlived"
    FORGOTTEN = "forgotten"


TRANSITIONS: dict[tuple[RootPhase | None, RootStep], RootPhase | None] = {
    (None, RootStep.MADE): RootPhase.PREPARED,
    (None, RootStep.MADE_FIRST): RootPhase.ACTIVE,  # there is nobody yet who has to learn of it
    (RootPhase.PREPARED, RootStep.ACTIVATED): RootPhase.ACTIVE,
    (RootPhase.ACTIVE, RootStep.SUPERSEDED): RootPhase.RETIRING,
    (RootPhase.RETIRING, RootStep.OUTLIVED): RootPhase.RETIRED,
    (RootPhase.RETIRED, RootStep.FORGOTTEN): None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RootRecord:
    """A root by name, its phase, and since when it is in it."""

    name: str
    phase: RootPhase
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RootPatience:
    """How long phases last: `leaf_life` is the longest that any leaf lasts; `renew_grace` is how
    long after its end an expired certificate may be renewed."""

    leaf_life: timedelta
    renew_grace: timedelta


Roots = tuple[RootRecord, ...]  # in the order in which they were made


def prepared(roots: Sequence[RootRecord], name: str, now: datetime) -> Roots:
    """Return the roots with a new one; the very first signs at once. Raises Conflict while another
    one is being prepared."""
    check_can_prepare(roots)
    step = RootStep.MADE if roots else RootStep.MADE_FIRST
    return (*roots, RootRecord(name=name, phase=_target(name, None, step), since=now))


def check_can_prepare(roots: Sequence[RootRecord]) -> None:
    """Raise Conflict while a root is being prepared already."""
    waiting = next((r.name for r in roots if r.phase is RootPhase.PREPARED), "")
    if waiting:
        raise Conflict(
            f"{waiting} is being prepared: it signs as soon as everybody could learn of it.",
            hint="See `fed ca get` for when.",
            reason="rotation-under-way",
        )


def advanced(roots: Sequence[RootRecord], now: datetime, patience: RootPatience) -> Roots:
    """Return the roots as they are now: each that waited long enough has moved on."""
    result = list(roots)
    for index, record in enumerate(roots):
        if record.phase is RootPhase.PREPARED and _due(record, patience) <= now:
            result = [
                _moved(r, RootStep.SUPERSEDED, now) if r.phase is RootPhase.ACTIVE else r
                for r in result
            ]
            result[index] = _moved(record, RootStep.ACTIVATED, now)
    for index, record in enumerate(result):
        if record.phase is RootPhase.RETIRING and _due(record, patience) <= now:
            result[index] = _moved(record, RootStep.OUTLIVED, now)
    return tuple(r for r in result if r.phase is not RootPhase.RETIRED or _due(r, patience) > now)


def next_change(roots: Sequence[RootRecord], patience: RootPatience) -> datetime | None:
    """Return when `advanced` changes something next; None if it never does."""
    due = [_due(record, patience) for record in roots if record.phase is not RootPhase.ACTIVE]
    return min(due, default=None)


def due_of(record: RootRecord, patience: RootPatience) -> datetime | None:
    """Return when a root moves on by itself; None for the active one."""
    return None if record.phase is RootPhase.ACTIVE else _due(record, patience)


def in_bundle(record: RootRecord) -> bool:
    """Whether everyone trusts this root."""
    return record.phase is not RootPhase.RETIRED


def _due(record: RootRecord, patience: RootPatience) -> datetime:
    wait = patience.renew_grace if record.phase is RootPhase.RETIRED else patience.leaf_life
    return record.since + wait


def _moved(record: RootRecord, step: RootStep, now: datetime) -> RootRecord:
    return replace(record, phase=_target(record.name, record.phase, step), since=now)


def _target(name: str, phase: RootPhase | None, step: RootStep) -> RootPhase:
    target = TRANSITIONS.get((phase, step))
    if target is None:
        raise InvalidTransition(f"the root {name}", phase.value if phase else "new", step.value)
    return target
