"""What can happen to an agent, and what it can decide to do. Past tense, then imperative.

Input: built by the agent's loop, by its worker (outcomes of jobs), by the link (assignments) and by
the gateway (doubts). Output: `Reconciler.handle` takes one event and returns commands, which the
agent's loop performs.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from federation.contract.capacity import Resources
from federation.contract.types import Assignment, ModelProtocol, Urgency

Key = tuple[str, int]  # (model, version)


class Task(StrEnum):
    """What one job does to one model version."""

    STAGE = "stage"  # bring all bytes to this cluster's disk
    VERIFY = "verify"  # hash them again and compare with the manifest
    LOAD = "load"  # load the version at the engine
    RESIZE = "resize"  # give it another number of replicas while it serves; one real inference
    HEAL = "heal"  # unload and load again: what the engine holds is broken or of another content
    WARM_UP = "warm-up"  # one real inference
    DRAIN = "drain"  # wait until no request is in flight, for a limited time
    UNLOAD = "unload"  # unload the version at the engine


# Tasks that make the engine work.
AT_ENGINE = frozenset({Task.LOAD, Task.RESIZE, Task.HEAL, Task.WARM_UP, Task.UNLOAD})

# ------------------------------------------------------------ events


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentReceived:
    """The desired state came, from the control plane or from this agent's own disk.

    `fresh` marks the first one after a welcome: it counts even if its generation is lower, because
    the control plane that this agent belongs to was restored or set up anew.
    """

    assignment: Assignment
    fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One version that the engine says it has loaded. `digest` is empty where unknown."""

    model: str
    version: int
    digest: str = ""
    protocol: ModelProtocol = ModelProtocol.TENSOR
    replicas: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineListed:
    """The engine answered. `asked_s` is when it was asked: jobs that ended later know better."""

    identity: str
    loaded: tuple[Listed, ...]
    asked_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLost:
    """The engine did not answer; nothing is known about what it has loaded."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDone:
    """A job ended well. `protocol` is known once a package was staged."""

    job: int
    model: str
    version: int
    protocol: ModelProtocol = ModelProtocol.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed:
    """A job failed. `engine_down` tells that the engine did not answer at all."""

    job: int
    model: str
    version: int
    reason: str
    engine_down: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingDoubted:
    """The gateway saw this version fail in a way that "ready" may not show."""

    model: str
    version: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time passed."""


Event = (
    AssignmentReceived | EngineListed | EngineLost | JobDone | JobFailed | ServingDoubted | Ticked
)

# ------------------------------------------------------------ commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Do one thing to one version; the outcome comes back as JobDone or JobFailed with this id."""

    id: int
    task: Task
    model: str
    version: int
    digest: str = ""
    replicas: int = 1
    max_replicas: int = 0  # above 0: the engine's autoscaler decides, from `replicas` on
    urgency: Urgency = Urgency.NORMAL  # of the transfer
    needs: Resources = field(default_factory=Resources)  # what each replica was given room for

    @property
    def key(self) -> Key:
        """The version that it is about."""
        return self.model, self.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Stop a job whose outcome is no longer wanted; none will come back."""

    job: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hasten:
    """A job that brings bytes, and that goes on, is more urgent now."""

    job: int
    urgency: Urgency


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAssignment:
    """Write the desired state to disk, before anything is done about it."""

    assignment: Assignment


Command = Job | Cancel | Hasten | KeepAssignment
