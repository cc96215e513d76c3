"""Which job each model version needs now, and how many jobs may run side by side.

Input: records, what is wanted, how the engine is, the time. Output: the jobs to start. The
reconciler keeps the records; this module only reads them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from edge_agent.policy.events import Key, Task
from edge_agent.policy.lifecycle import Record
from federation.contract.types import AssignedVersion, Urgency, VersionState
from federation.runtime.backoff import Backoff

# Which jobs share a bound, and how many of them run at a time.
LANES: dict[Task, str] = {
    Task.STAGE: "transfer",
    Task.VERIFY: "disk",
    Task.LOAD: "engine",
    Task.RESIZE: "engine",
    Task.HEAL: "engine",
    Task.UNLOAD: "engine",
    Task.WARM_UP: "warm-up",
    Task.DRAIN: "drain",
}
# Transfers share the link by urgency (see `bandwidth`). Their bound here is wide: one that waits
# for its window must not keep back another whose bytes are on this disk already.
BOUNDS = {"transfer": 32, "disk": 3, "engine": 1, "warm-up": 2, "drain": 1000}


class EngineView(StrEnum):
    """What is known of the engine."""

    UNKNOWN = "unknown"  # it was not asked yet: nothing is loaded, lest it is loaded already
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the reconciler waits. Seconds."""

    retry: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, cap_s=60.0))
    engine_lost_s: float = 3.0  # an engine silent for so long has lost its versions
    recheck_s: float = 2.0  # between two warm-ups of a version that is doubted
    warm_failures: int = 2  # so many failed warm-ups in a row, and the version is loaded anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a choice of jobs depends on, besides the records."""

    wanted: Mapping[Key, AssignedVersion]
    engine: EngineView
    patience: Patience
    now: float

    def urgency(self, record: Record) -> Urgency:
        """Return which versions go first."""
        wanted = self.wanted.get(record.key)
        return wanted.urgency if wanted else Urgency.NORMAL

    def stage_only(self, record: Record) -> bool:
        """Whether the version shall lie ready and not be loaded."""
        wanted = self.wanted.get(record.key)
        return wanted is not None and wanted.stage_only


def next_jobs(records: Iterable[Record], situation: Situation) -> list[tuple[Task, Record]]:
    """Return the jobs that are due and for which there is room, in the order to start them."""
    room, due = Counter(BOUNDS), []
    for record in records:
        if record.job is not None:
            room[LANES[record.job.task]] -= 1
        elif (task := due_job(record, situation)) is not None:
            due.append((task, record))
    # Unloads first: they free what loads need. The rest by urgency, then in the order of names.
    due.sort(
        key=lambda pair: (pair[0] is not Task.UNLOAD, -situation.urgency(pair[1]), pair[1].key)
    )
    chosen = []
    for task, record in due:
        if room[LANES[task]] > 0:
            room[LANES[task]] -= 1
            chosen.append((task, record))
    return chosen


def same_number(record: Record, wanted: AssignedVersion) -> bool:
    """Whether a version has the replicas that are wanted."""
    return (record.replicas, record.max_replicas) == (wanted.replicas, wanted.max_replicas)


def due_job(record: Record, situation: Situation) -> Task | None:
    """Return the job that a version needs now, if any."""
    match record.state:
        case VersionState.PENDING:
            return Task.STAGE
        case VersionState.STAGED if (
            situation.engine is not EngineView.UNKNOWN or situation.stage_only(record)
        ):
            return Task.VERIFY
        case VersionState.VERIFIED if situation.stage_only(record):
            return None
        case VersionState.DRAINING if not record.drained:
            return Task.DRAIN
    return _due_at_engine(record, situation) if situation.engine is EngineView.UP else None


def _due_at_engine(record: Record, situation: Situation) -> Task | None:
    match record.state:
        case VersionState.VERIFIED:
            return Task.LOAD if record.at_engine is None and not record.heal else Task.HEAL
        case VersionState.LOADED:
            return Task.WARM_UP
        case VersionState.WARMED:
            if record.doubt and situation.now >= record.checked_s + situation.patience.recheck_s:
                return Task.WARM_UP
            wanted = situation.wanted.get(record.key)
            resized = wanted is not None and not same_number(record, wanted)
            return Task.RESIZE if resized and situation.now >= record.retry_s else None
        case VersionState.DRAINING if situation.now >= record.retry_s:
            return Task.UNLOAD
    return None
