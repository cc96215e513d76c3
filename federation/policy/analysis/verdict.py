"""What the analysis says: an outcome, why, and a sentence for people.

Input: nothing. Output: the types that `judging` fills and the rollout machine acts upon.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from federation.policy.analysis.limits import Metric


class Outcome(StrEnum):
    """What is known about the canary."""

    PASSED = "pass"  # it keeps all limits, as far as `beta` allows to say so
    FAILED = "fail"  # it breaks one
    INCONCLUSIVE = "inconclusive"  # neither, yet; never a pass


class Reason(StrEnum):
    """Why the outcome is what it is, for machines."""

    KEPT = "limits-kept"
    HARM = "harm"  # a limit of `Verdict.metric` is broken
    WRONG_INPUTS = "wrong-inputs"
    CLOSED = "closed"  # the region is not judged (any more)
    NO_TRAFFIC = "no-traffic"
    SILENT = "silent-router"
    SPLIT = "split"  # the canary's share of the draw is not its weight
    DIVERTED = "diverted"  # the stable version answers for the canary, which cannot be had
    BAKING = "baking"
    FEW_REQUESTS = "few-requests"
    FEW_CLIENTS = "few-clients"
    LOAD = "load"  # the canary's replicas have more to do than the stable's
    NO_REFERENCE = "no-reference"  # the stable had too few requests to know its percentiles
    DRIFT = "drift"  # the stable itself is not what it was
    ITSELF = "differs-from-itself"  # the stable's latency depends on who asks: it is not judged
    SUSPECT = "suspect"  # a step up waits: looks beyond a limit, not sure yet
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`words` tell it with its numbers and begin with the outcome.

    `wait_s` estimates how long it takes to know more (None = nobody can tell). `pause`: waiting
    does not help, a person should look. `details` are for the details page: evidence as natural
    logarithms, design effects, counts.
    """

    outcome: Outcome
    reason: Reason
    words: str
    region: str = ""  # "" = the whole rollout
    metric: Metric | None = None
    wait_s: float | None = None
    pause: bool = False
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Is it known to keep its limits?"""
        return self.outcome is Outcome.PASSED

    @property
    def failed(self) -> bool:
        """Is it known to break a limit?"""
        return self.outcome is Outcome.FAILED
