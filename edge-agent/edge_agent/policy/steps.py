"""Which step a version takes next without any job: it follows from what is known.

Input: what the reconciler knows of one version and of the others. Output: the step, or None if
there is none to take. The reconciler keeps the records; this module only reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.policy.events import Key, Task
from edge_agent.policy.lifecycle import Record, Step
from edge_agent.policy.schedule import EngineView
from federation.contract.types import AssignedVersion, VersionState

# Jobs whose outcome nobody misses.
ABANDONABLE = {Task.STAGE, Task.VERIFY, Task.WARM_UP, Task.DRAIN}
HELD = {VersionState.LOADED, VersionState.WARMED}


@dataclass(frozen=True, slots=True)
class View:
    """What is known of all versions now. `listed` is what the engine has, by digest."""

    records: Mapping[Key, Record]
    wanted: Mapping[Key, AssignedVersion]
    listed: Mapping[Key, str]
    engine: EngineView
    now: float

    def next_step(self, key: Key) -> Step | None:
        """Return the step that this version takes now, if any."""
        record, wanted = self.records.get(key), self.wanted.get(key)
        if wanted is None:
            return self._of_unwanted(key, record)
        if record is None:
            return Step.ASSIGNED
        if record.job is not None and record.job.task is not Task.DRAIN:
            return None
        if wanted.stage_only and _may_be_loaded(record):
            return self._towards_bytes_only(record)
        return self._of_wanted(record, wanted)

    def _of_wanted(self, record: Record, wanted: AssignedVersion) -> Step | None:
        same = record.digest == wanted.digest
        match record.state:
            case VersionState.CACHED | VersionState.DRAINING:
                return Step.ASSIGNED
            case VersionState.FAILED if same:
                return record.retry if self.now >= record.retry_s else None
            case VersionState.STAGED | VersionState.VERIFIED if same:
                if not wanted.stage_only and self._adoptable(record):
                    return Step.ADOPTED
                unchecked = record.state is VersionState.STAGED
                return Step.VERIFIED if unchecked and record.verified else None
        return None if same else Step.REPLACED

    def _towards_bytes_only(self, record: Record) -> Step | None:
        """A version that shall only lie ready is drained and unloaded, as if nobody wanted it."""
        if record.state is VersionState.DRAINING:
            return None
        if record.state is VersionState.CACHED:  # loaded by somebody else
            return Step.STRAY
        if record.state is VersionState.WARMED and self._successor_pending(record.model):
            return None
        return Step.RETIRED

    def _adoptable(self, record: Record) -> bool:
        """Whether the engine has the wanted content already (or may: versions never change)."""
        known = self.engine is EngineView.UP and not record.heal
        return known and record.at_engine in ("", record.digest)

    def _of_unwanted(self, key: Key, record: Record | None) -> Step | None:
        if record is None:
            return Step.STRAY if key in self.listed else None
        if record.job is not None and record.job.task not in ABANDONABLE:
            return None
        match record.state:
            case VersionState.DRAINING:
                return None
            case VersionState.CACHED:
                return Step.STRAY if record.at_engine is not None else None
            case VersionState.WARMED if self._successor_pending(record.model):
                return None
        return Step.RETIRED if record.at_engine is not None else Step.DROPPED

    def _successor_pending(self, model: str) -> bool:
        """Whether a version of `model` shall be loaded that does not serve yet."""
        return any(
            self.records.get(key) is None or self.records[key].state is not VersionState.WARMED
            for key, wanted in self.wanted.items()
            if key[0] == model and not wanted.stage_only
        )


def _may_be_loaded(record: Record) -> bool:
    loaded = record.state in HELD or record.state is VersionState.DRAINING
    return loaded or record.at_engine is not None
