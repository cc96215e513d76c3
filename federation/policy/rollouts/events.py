"""What can happen to rollouts. Past tense.

Input: built by `federation.api` from what people ask for and routers tell. Output: taken by
`decide`.
"""

from dataclasses import dataclass
from enum import StrEnum

from federation.contract.rollout import RolloutSpec, VersionCounts


class Verb(StrEnum):
    """What a person can ask of a rollout that goes on."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"  # skip what is left of this step, its bake and its analysis
    APPROVE = "approve"  # let the wave begin that waits for an approval
    ABORT = "abort"  # back to the stable version, at once


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutApplied:
    """Somebody wants a rollout to begin. An empty name asks for a new one."""

    actor: str
    name: str
    spec: RolloutSpec
    why: str = ""
    expected: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSteered:
    """Somebody intervened. `name` is a rollout's or a model's (then: the one that goes on).

    `full`: of PROMOTE, skip all waves and steps that are left.
    """

    actor: str
    name: str
    verb: Verb
    why: str = ""
    full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutUndone:
    """Somebody wants a model back at a version that it had (0 = the one before)."""

    actor: str
    model: str
    version: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterCounted:
    """A router told what it saw since it started; `instance` is new at each start of it."""

    name: str
    instance: str
    sequence: int
    counts: tuple[VersionCounts, ...]
