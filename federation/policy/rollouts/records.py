"""What the control plane remembers of rollouts, and their states.

Input: made by the deciders of this package. Output: kept in State, stored as JSON, shown by views.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from federation.contract.rollout import RolloutSpec
from federation.policy.analysis.verdict import Outcome
from federation.policy.meta import Meta


class Phase(StrEnum):
    """How far a rollout is."""

    PENDING = "pending"  # accepted; it waits for its turn, a gate or a freeze to end
    STAGING = "staging"  # the canary comes to the wave's clusters and warms up; it has no traffic
    PROGRESSING = "progressing"  # a weight was ordered; not every router in contact has it yet
    BAKING = "baking"  # the weight holds everywhere; time passes and the analysis counts
    PAUSED = "paused"  # nothing moves until a person, or time, says so; `pause` tells why
    PROMOTED = "promoted"  # over: the canary is the stable version everywhere
    ROLLING_BACK = "rolling-back"  # traffic goes back to the stable version, then the canary goes
    ROLLED_BACK = "rolled-back"  # over: everything is as it was
    FAILED = "failed"  # over without a canary that had traffic: it could not begin


class Pause(StrEnum):
    """Why a rollout is paused."""

    MANUAL = "manual"  # somebody asked for it
    GATE = "gate"  # the next wave needs an approval
    FREEZE = "freeze"  # a region of the wave is in a freeze window
    INCONCLUSIVE = "inconclusive"  # the longest bake is over without a verdict


class Hurry(StrEnum):
    """How far a person lets a rollout go without bake and analysis."""

    NO = ""
    STEP = "step"  # to the next step or wave
    FULL = "full"  # to its end


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRecord:
    """The newest verdict, for people: "p95 +38 % in us-east, limit +20 %, 412 against 8,113"."""

    outcome: Outcome
    words: str
    region: str = ""  # "" = the whole rollout
    metric: str = ""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveRecord:
    """A wave as it was resolved when the rollout started."""

    regions: tuple[str, ...]
    clusters: tuple[str, ...]
    approval: bool = False
    approved_by: str = ""
    weight: float = 0.0  # percent of its regions' traffic that the canary was ordered to take
    promoted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One transition, for the history. `wave` and `step` count from 0."""

    at: datetime
    event: str
    was: Phase
    now: Phase
    wave: int
    step: int
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRecord:
    """A rollout from `stable` to `canary`, and all that happened to it."""

    meta: Meta
    spec: RolloutSpec
    deployment: str
    stable: int
    canary: int
    started_by: str
    why: str = ""  # what its starter said
    phase: Phase = Phase.PENDING
    since: datetime  # when it came into this phase
    reason: str = ""  # of the phase, in words
    pause: Pause | None = None
    resume_to: Phase | None = None  # where it goes on after a pause
    waves: tuple[WaveRecord, ...] = ()
    wave: int = 0
    step: int = 0
    weighed_at: datetime | None = None  # when the present weight held everywhere
    hurry: Hurry = Hurry.NO
    undo: bool = False  # it goes back to a version that served before: freezes don't hold it
    frozen_until: datetime | None = None  # while the pause is a freeze
    superseded_by: str = ""
    verdicts: tuple[VerdictRecord, ...] = ()  # the newest of the whole and of each region
    losses: Mapping[str, str] = field(default_factory=dict)  # where it took versions with it, why
    history: tuple[Passage, ...] = ()
    ended_at: datetime | None = None

    @property
    def over(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.phase in (Phase.PROMOTED, Phase.ROLLED_BACK, Phase.FAILED)

    @property
    def queued(self) -> bool:
        """Whether it has not begun: nothing was changed for it yet."""
        return Phase.PENDING in (self.phase, self.resume_to)

    @property
    def moving(self) -> bool:
        """Whether it has begun and is not over."""
        return not self.over and not self.queued

    @property
    def entered(self) -> tuple[WaveRecord, ...]:
        """The waves that have begun."""
        return self.waves[: self.wave + 1]

    @property
    def weighs(self) -> bool:
        """Whether the canary may have traffic anywhere."""
        return self.moving and any(wave.weight for wave in self.waves)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRecord:
    """What the analysis of a rollout knows, as `Analysis.to_json` tells it."""

    rollout: str
    analysis: dict[str, Any]


def going_by_model(rollouts: Mapping[str, RolloutRecord]) -> dict[str, tuple[str, ...]]:
    """Return the names of the rollouts that are not over, by model, the older ones first."""
    found: dict[str, tuple[str, ...]] = {}
    for name, record in sorted(rollouts.items(), key=lambda i: (i[1].meta.created_at, i[0])):
        if not record.over:
            found[record.spec.model] = (*found.get(record.spec.model, ()), name)
    return found
