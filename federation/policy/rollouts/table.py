"""The life of a rollout: one table.

Input: a RolloutRecord and what happened to it. Output: the record after it, with its history; or
InvalidTransition, which tells how the rollout came to be where it is.
"""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from federation.contract.errors import InvalidTransition
from federation.policy.rollouts.records import Passage, Phase, RolloutRecord

HISTORY = 400  # passages that are kept; the first one always is
_STORY = 6


class Turn(StrEnum):
    """What moves a rollout from one phase to the next."""

    ACCEPTED = "accepted"  # somebody asked for it, or an alias moved
    REFUSED = "refused"  # it was to begin by itself, and must not
    BEGUN = "begun"  # its turn has come
    STAGED = "staged"  # the canary is warm at the wave's clusters
    WEIGHED = "weighed"  # the routers in contact have the new weight
    STEPPED = "stepped"  # the next weight of this wave
    ADVANCED = "advanced"  # the next wave
    COMPLETED = "completed"  # the last wave is done
    HURRIED = "hurried"  # a person wants all of it now
    PAUSED = "paused"  # a person wants nothing to move
    HELD = "held"  # a gate, a freeze, or no verdict
    RESUMED_PENDING = "resumed to pending"
    RESUMED_STAGING = "resumed to staging"
    RESUMED_PROGRESSING = "resumed to progressing"
    RESUMED_BAKING = "resumed to baking"
    ABORTED = "aborted"  # by a person
    JUDGED_BAD = "judged bad"  # by the analysis, or by what agents tell
    SUPERSEDED = "superseded"  # by another rollout of the model, or another wish
    RESTORED = "restored"  # the canary is gone
    ORPHANED = "orphaned"  # its deployment is gone
    FORGOTTEN = "forgotten"  # long after it was over, or by a person


P, T = Phase, Turn

TRANSITIONS: dict[tuple[Phase | None, Turn], Phase | None] = {
    (None, T.ACCEPTED): P.PENDING,
    (None, T.REFUSED): P.FAILED,
    (P.PENDING, T.BEGUN): P.STAGING,
    (P.PENDING, T.HELD): P.PAUSED,
    (P.PENDING, T.PAUSED): P.PAUSED,
    (P.PENDING, T.REFUSED): P.FAILED,
    (P.PENDING, T.ABORTED): P.ROLLED_BACK,
    (P.PENDING, T.SUPERSEDED): P.ROLLED_BACK,
    (P.PENDING, T.ORPHANED): P.FAILED,
    (P.STAGING, T.STAGED): P.PROGRESSING,
    (P.STAGING, T.HURRIED): P.STAGING,
    (P.STAGING, T.HELD): P.PAUSED,
    (P.STAGING, T.PAUSED): P.PAUSED,
    (P.STAGING, T.ABORTED): P.ROLLING_BACK,
    (P.STAGING, T.JUDGED_BAD): P.ROLLING_BACK,
    (P.STAGING, T.SUPERSEDED): P.ROLLING_BACK,
    (P.STAGING, T.ORPHANED): P.FAILED,
    (P.PROGRESSING, T.WEIGHED): P.BAKING,
    (P.PROGRESSING, T.HURRIED): P.STAGING,
    (P.PROGRESSING, T.PAUSED): P.PAUSED,
    (P.PROGRESSING, T.ABORTED): P.ROLLING_BACK,
    (P.PROGRESSING, T.JUDGED_BAD): P.ROLLING_BACK,
    (P.PROGRESSING, T.SUPERSEDED): P.ROLLING_BACK,
    (P.PROGRESSING, T.ORPHANED): P.FAILED,
    (P.BAKING, T.STEPPED): P.PROGRESSING,
    (P.BAKING, T.ADVANCED): P.STAGING,
    (P.BAKING, T.COMPLETED): P.PROMOTED,
    (P.BAKING, T.HURRIED): P.STAGING,
    (P.BAKING, T.HELD): P.PAUSED,
    (P.BAKING, T.PAUSED): P.PAUSED,
    (P.BAKING, T.ABORTED): P.ROLLING_BACK,
    (P.BAKING, T.JUDGED_BAD): P.ROLLING_BACK,
    (P.BAKING, T.SUPERSEDED): P.ROLLING_BACK,
    (P.BAKING, T.ORPHANED): P.FAILED,
    (P.PAUSED, T.PAUSED): P.PAUSED,
    (P.PAUSED, T.RESUMED_PENDING): P.PENDING,
    (P.PAUSED, T.RESUMED_STAGING): P.STAGING,
    (P.PAUSED, T.RESUMED_PROGRESSING): P.PROGRESSING,
    (P.PAUSED, T.RESUMED_BAKING): P.BAKING,
    (P.PAUSED, T.HURRIED): P.STAGING,
    (P.PAUSED, T.ABORTED): P.ROLLING_BACK,
    (P.PAUSED, T.JUDGED_BAD): P.ROLLING_BACK,
    (P.PAUSED, T.SUPERSEDED): P.ROLLING_BACK,
    (P.PAUSED, T.ORPHANED): P.FAILED,
    (P.ROLLING_BACK, T.RESTORED): P.ROLLED_BACK,
    (P.ROLLING_BACK, T.ORPHANED): P.FAILED,
    (P.PROMOTED, T.FORGOTTEN): None,
    (P.ROLLED_BACK, T.FORGOTTEN): None,
    (P.FAILED, T.FORGOTTEN): None,
}

RESUMES: dict[Phase, Turn] = {
    P.PENDING: T.RESUMED_PENDING,
    P.STAGING: T.RESUMED_STAGING,
    P.PROGRESSING: T.RESUMED_PROGRESSING,
    P.BAKING: T.RESUMED_BAKING,
}


def allows(record: RolloutRecord, turn: Turn) -> bool:
    """Whether a rollout can take a turn where it is."""
    return (record.phase, turn) in TRANSITIONS


def taken(
    record: RolloutRecord, turn: Turn, now: datetime, actor: str, reason: str = "", **changes: Any
) -> RolloutRecord:
    """Return the record after a turn, its meta as it was; raises InvalidTransition with its story.

    `wave` and `step` among the changes are those that it goes on with.
    """
    target = TRANSITIONS.get((record.phase, turn))
    if target is None:
        raise InvalidTransition(
            f"rollout {record.meta.name!r}", record.phase.value, turn.value, story(record)
        )
    passage = Passage(
        at=now,
        event=turn.value,
        was=record.phase,
        now=target,
        wave=changes.get("wave", record.wave),
        step=changes.get("step", record.step),
        actor=actor,
        reason=reason,
    )
    if target is not Phase.PAUSED:
        changes = {"pause": None, "resume_to": None, "frozen_until": None, **changes}
    after = replace(record, phase=target, since=now, reason=reason, **changes)
    ended = now if after.over else None
    return replace(after, ended_at=ended, history=_kept(record.history, passage))


def first(record: RolloutRecord, turn: Turn, now: datetime, actor: str) -> RolloutRecord:
    """Return a new record after its first turn, which its `reason` explains."""
    phase = Phase.FAILED if turn is Turn.REFUSED else Phase.PENDING
    passage = Passage(
        at=now,
        event=turn.value,
        was=phase,
        now=phase,
        wave=0,
        step=0,
        actor=actor,
        reason=record.reason,
    )
    ended = now if phase is Phase.FAILED else None
    return replace(record, phase=phase, since=now, ended_at=ended, history=(passage,))


def _kept(history: tuple[Passage, ...], passage: Passage) -> tuple[Passage, ...]:
    if len(history) < HISTORY:
        return (*history, passage)
    return (history[0], *history[2:], passage)


def story(record: RolloutRecord) -> tuple[str, ...]:
    """Return the last passages of a rollout in words, oldest first."""
    return tuple(
        f"{p.was} -{p.event}-> {p.now}{f' ({p.reason})' if p.reason else ''}"
        for p in record.history[-_STORY:]
    )
