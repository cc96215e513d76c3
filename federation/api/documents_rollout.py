"""The shapes of what is told about rollouts; a part of `documents`.

Input: none. Output: types whose schemas describe what `policy.rollouts.rollout_view` shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from federation.policy.analysis.verdict import Outcome
from federation.policy.rollouts.records import Pause, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the analysis said last, in words."""

    outcome: Outcome
    words: str
    metric: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenView:
    """How many of the package's golden inputs were answered wrongly."""

    inputs: int
    wrong: int
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryAt:
    """The canary at one cluster; `state` is "" where it was not assigned yet."""

    cluster: str
    state: str
    done_bytes: int
    total_bytes: int
    bytes_per_second: float
    eta_s: float
    replicas: int
    golden: GoldenView | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionOfWave:
    """A region of a wave; `weight` is the canary's share of its traffic, in percent, `so_far` what
    was counted of both versions since the wave began ("" = nothing yet)."""

    region: str
    weight: float
    verdict: Verdict | None
    so_far: str
    clusters: tuple[CanaryAt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveView:
    """A wave; its `state` is waiting, next, now, done or back."""

    number: int
    state: str
    approval: bool
    approved_by: str
    weight: float
    promoted_at: datetime | None
    regions: tuple[RegionOfWave, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """What a person can do now, and the command that does it."""

    does: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageView:
    """One transition."""

    at: datetime
    event: str
    was: Phase
    now: Phase
    wave: int
    step: int
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStatus:
    """Where a rollout stands. Waves and steps count from 1; `pause` says why it is paused; `next`
    what happens if nobody intervenes, `next_at` when at the earliest; `commands` how to
    intervene."""

    phase: Phase
    over: bool
    reason: str
    pause: Pause | None
    deployment: str
    stable: int
    canary: int
    since: datetime
    started_by: str
    why: str
    ended_at: datetime | None
    wave: int
    of_waves: int
    step: int
    of_steps: int
    weights: Mapping[str, float]
    verdict: Verdict | None
    waves: tuple[WaveView, ...]
    next: str
    next_at: datetime | None
    commands: tuple[Intervention, ...]
    history: tuple[PassageView, ...]
