"""An engine that someone else runs: it is looked at, never changed.

Input: the same events as the reconciler. Output: the same observations, and no jobs at all.
"""

from edge_agent.policy.events import (
    AssignmentReceived,
    Command,
    EngineListed,
    EngineLost,
    Event,
    KeepAssignment,
    Key,
    Listed,
)
from edge_agent.policy.schedule import EngineView, Patience
from federation.contract.types import Assignment, ObservedVersion, VersionState

_CANNOT = "this cluster's engine is run by someone else: the agent cannot load anything there"


class ReadOnlyView:
    """What a static engine serves. `handle` is its only way in."""

    def __init__(self, *, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self.assignment: Assignment | None = None
        self.engine = EngineView.UNKNOWN
        self._listed: dict[Key, Listed] = {}
        self._silent_since_s: float | None = None

    def __repr__(self) -> str:
        return f"ReadOnlyView(engine {self.engine}, {sorted(self._listed)})"

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event at `now` (monotonic seconds) and return what to do."""
        match event:
            case AssignmentReceived() if event.assignment != self.assignment:
                self.assignment = event.assignment
                return [KeepAssignment(assignment=event.assignment)]
            case EngineListed():
                self.engine, self._silent_since_s = EngineView.UP, None
                self._listed = {(v.model, v.version): v for v in event.loaded}
            case EngineLost():
                if self._silent_since_s is None:
                    self._silent_since_s = now
                if now - self._silent_since_s >= self._patience.engine_lost_s:
                    self.engine = EngineView.DOWN
                    self._listed.clear()
            case _:
                pass
        return []

    def observed(self) -> tuple[ObservedVersion, ...]:
        """Return what the engine serves; what was assigned besides cannot be had."""
        versions = {
            key: ObservedVersion(
                model=v.model,
                version=v.version,
                digest=v.digest,
                state=VersionState.WARMED,
                replicas=v.replicas,
                protocol=v.protocol,
            )
            for key, v in self._listed.items()
        }
        for wanted in self.assignment.versions if self.assignment else ():
            failed = ObservedVersion(
                model=wanted.model,
                version=wanted.version,
                digest=wanted.digest,
                state=VersionState.FAILED,
                reason=_CANNOT,
            )
            versions.setdefault((wanted.model, wanted.version), failed)
        return tuple(versions[key] for key in sorted(versions))
