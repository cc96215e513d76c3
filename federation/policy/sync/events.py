"""What people do to have models staged ahead of their use.

Input: built by `federation.api`. Output: taken by `decide`.
"""

from dataclasses import dataclass

from federation.contract.resources import PrefetchSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchApplied:
    """A prefetch was created or changed. `expected` is the resource version that was read."""

    actor: str
    name: str
    spec: PrefetchSpec
    expected: int | None = None
