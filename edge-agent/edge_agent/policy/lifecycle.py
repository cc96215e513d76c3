"""The life of one model version at one cluster: its states, its transitions, its record.

Input: steps that the reconciler takes. Output: the next Record, or InvalidTransition with the story
of the last ones. The states themselves are `federation.contract.types.VersionState`; what is true
in each of them is in STATES.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from edge_agent.policy.events import Job, Key
from federation.contract.errors import InvalidTransition
from federation.contract.rollout import Losses
from federation.contract.types import ModelProtocol, VersionState

_STORY_LENGTH = 8

STATES: dict[VersionState, str] = {
    VersionState.PENDING: "It is assigned; its bytes are not known to be complete on this disk.",
    VersionState.STAGED: "All its bytes are on this disk; the engine is not known to have it.",
    VersionState.VERIFIED: "Every byte on this disk matches the manifest.",
    VersionState.LOADED: "The engine says that it is loaded; it has not yet answered since.",
    VersionState.WARMED: "It answered a warm-up inference since it was last loaded.",
    VersionState.DRAINING: "It is not assigned; it is being drained, then unloaded.",
    VersionState.CACHED: "It is not assigned and not loaded; its bytes stay on this disk.",
    VersionState.FAILED: "The last attempt failed; another one follows.",
}


class Step(StrEnum):
    """What moves a version from one state to the next."""

    ASSIGNED = "assigned"  # the control plane wants it here
    REPLACED = "replaced"  # the control plane wants other content under the same number
    STRAY = "stray"  # the engine has it, nobody wants it
    STAGED = "staged"
    VERIFIED = "verified"
    LOADED = "loaded"
    ADOPTED = "adopted"  # the engine has it already: no load is needed
    WARMED = "warmed"
    RESIZED = "resized"  # it has another number of replicas, and answered with them
    LOST = "lost"  # the engine restarted, forgot it, or does not answer
    DISPROVED = "disproved"  # it was doubted, and a warm-up inference failed too
    FAILED = "failed"
    STAGING_RETRIED = "staging-retried"
    LOADING_RETRIED = "loading-retried"
    WARMING_RETRIED = "warming-retried"
    RETIRED = "retired"  # no longer assigned, and the engine may have it
    DROPPED = "dropped"  # no longer assigned, and the engine does not have it
    UNLOADED = "unloaded"
    FORGOTTEN = "forgotten"  # unloaded, and there never were bytes of it on this disk


S = VersionState
# None = there is no record: the agent does not know the version, or does not need to any more.
TRANSITIONS: dict[tuple[VersionState | None, Step], VersionState | None] = {
    (None, Step.ASSIGNED): S.PENDING,
    (None, Step.STRAY): S.DRAINING,
    (S.PENDING, Step.STAGED): S.STAGED,
    (S.PENDING, Step.FAILED): S.FAILED,
    (S.PENDING, Step.REPLACED): S.PENDING,
    (S.PENDING, Step.RETIRED): S.DRAINING,
    (S.PENDING, Step.DROPPED): None,
    (S.STAGED, Step.VERIFIED): S.VERIFIED,
    (S.STAGED, Step.ADOPTED): S.LOADED,
    (S.STAGED, Step.FAILED): S.FAILED,
    (S.STAGED, Step.REPLACED): S.PENDING,
    (S.STAGED, Step.RETIRED): S.DRAINING,
    (S.STAGED, Step.DROPPED): S.CACHED,
    (S.VERIFIED, Step.LOADED): S.LOADED,
    (S.VERIFIED, Step.ADOPTED): S.LOADED,
    (S.VERIFIED, Step.FAILED): S.FAILED,
    (S.VERIFIED, Step.REPLACED): S.PENDING,
    (S.VERIFIED, Step.RETIRED): S.DRAINING,
    (S.VERIFIED, Step.DROPPED): S.CACHED,
    (S.LOADED, Step.WARMED): S.WARMED,
    (S.LOADED, Step.FAILED): S.FAILED,
    (S.LOADED, Step.LOST): S.STAGED,
    (S.LOADED, Step.REPLACED): S.PENDING,
    (S.LOADED, Step.RETIRED): S.DRAINING,
    (S.WARMED, Step.WARMED): S.WARMED,  # doubted, and it answered
    (S.WARMED, Step.RESIZED): S.WARMED,
    (S.WARMED, Step.DISPROVED): S.STAGED,
    (S.WARMED, Step.LOST): S.STAGED,
    (S.WARMED, Step.REPLACED): S.PENDING,
    (S.WARMED, Step.RETIRED): S.DRAINING,
    (S.DRAINING, Step.ASSIGNED): S.PENDING,
    (S.DRAINING, Step.UNLOADED): S.CACHED,
    (S.DRAINING, Step.FORGOTTEN): None,
    (S.CACHED, Step.ASSIGNED): S.PENDING,
    (S.CACHED, Step.STRAY): S.DRAINING,
    (S.FAILED, Step.STAGING_RETRIED): S.PENDING,
    (S.FAILED, Step.LOADING_RETRIED): S.STAGED,
    (S.FAILED, Step.WARMING_RETRIED): S.LOADED,
    (S.FAILED, Step.REPLACED): S.PENDING,
    (S.FAILED, Step.RETIRED): S.DRAINING,
    (S.FAILED, Step.DROPPED): None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the agent knows of one version. Replaced whole, never changed."""

    model: str
    version: int
    digest: str  # of the package that is wanted
    replicas: int = 1
    max_replicas: int = 0  # above 0: the engine's autoscaler decides, from `replicas` on
    state: VersionState
    protocol: ModelProtocol = ModelProtocol.UNKNOWN
    job: Job | None = None  # what is being done to it; at most one thing at a time
    staged: bool = False  # its package is on disk, and the worker has read it
    verified: bool = False  # its bytes were compared with the manifest since this agent started
    at_engine: str | None = None  # digest of what the engine has under its name; "" = unknown
    heal: bool = False  # what the engine has is broken: load only after an unload
    drained: bool = False
    losses: Losses | None = None  # since it was assigned
    doubt: str = ""  # why the gateway doubts that it serves
    checked_s: float = float("-inf")  # when it last answered a warm-up inference
    reason: str = ""
    failures: int = 0  # in a row
    retry: Step = Step.STAGING_RETRIED
    retry_s: float = 0.0  # not before this time
    story: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """Model and version."""
        return self.model, self.version

    def __repr__(self) -> str:
        doing = f", {self.job.task}" if self.job else ""
        why = f", {self.reason}" if self.reason else ""
        return f"Record({self.model}@{self.version} {self.state}{doing}{why})"

    def take(self, step: Step, **changes: Any) -> "Record | None":
        """Return the record after `step` (None: forgotten); raises InvalidTransition."""
        if (self.state, step) not in TRANSITIONS:
            subject = f"{self.model}@{self.version}"
            raise InvalidTransition(subject, self.state, step, self.story)
        state = TRANSITIONS[self.state, step]
        if state is None:
            return None
        changes |= self._losses_after(step, str(changes.get("reason", self.reason)))
        told = (*self.story, f"{self.state} -{step}-> {state}")[-_STORY_LENGTH:]
        return replace(self, state=state, story=told, **changes)

    def _losses_after(self, step: Step, reason: str) -> dict[str, Losses | None]:
        """Count where it served and stopped to without having been told to."""
        if step in (Step.ASSIGNED, Step.REPLACED):
            return {"losses": None}
        if self.state is not VersionState.WARMED or step not in (Step.LOST, Step.DISPROVED):
            return {}
        times = self.losses.times if self.losses else 0
        return {"losses": Losses(times=times + 1, words=reason or "the engine lost it")}


def new_record(key: Key, step: Step, digest: str, at_engine: str | None) -> Record:
    """Return the first record of a version; raises InvalidTransition."""
    state = TRANSITIONS.get((None, step))
    if state is None:
        raise InvalidTransition(f"{key[0]}@{key[1]}", "unknown", step)
    return Record(
        model=key[0],
        version=key[1],
        digest=digest,
        state=state,
        at_engine=at_engine,
        drained=step is Step.STRAY,  # no request can have come through this agent's gateway
        story=(f"unknown -{step}-> {state}",),
    )
