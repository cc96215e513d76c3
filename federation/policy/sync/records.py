"""What the control plane remembers of prefetches.

Input: made by the deciders. Output: kept in State, stored as JSON, shown by the views.
"""

from dataclasses import dataclass

from federation.contract.resources import PrefetchSpec
from federation.policy.meta import Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchRecord:
    """A wish that a version lies ready at some clusters."""

    meta: Meta
    spec: PrefetchSpec
