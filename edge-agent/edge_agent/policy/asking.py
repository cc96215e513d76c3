"""Which version is asked its golden inputs next: once before it serves, a canary again and again.

Input: the versions as they stand, how often each is to be asked, when it was asked last. Output:
one of them, or none. How often is the control plane's wish: 0 for stable versions, whose answers
are not in doubt and whose engine has other work.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edge_agent.policy.events import Key
from federation.contract.types import Assignment, ObservedVersion, VersionState


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked now: a version that is warm; `again`, if it was asked before."""

    version: ObservedVersion
    again: bool


def intervals(assignment: Assignment) -> dict[Key, int]:
    """Return how often versions are asked again, in seconds; the others are asked once."""
    return {(v.model, v.version): v.golden_every_s for v in assignment.versions if v.golden_every_s}


def next_to_ask(
    versions: Iterable[ObservedVersion],
    asked_s: Mapping[str, float],
    every_s: Mapping[Key, int],
    now_s: float,
    *,
    has_golden: Callable[[ObservedVersion], bool],
) -> Asking | None:
    """Return what is asked now: first what was never asked, then what waits longest.

    `asked_s` tells by digest when it was asked last, by a monotonic clock.
    """
    waiting: list[tuple[float, ObservedVersion]] = []
    for seen in versions:
        if seen.state is not VersionState.WARMED:
            continue
        last_s, every = asked_s.get(seen.digest), every_s.get((seen.model, seen.version), 0)
        if last_s is None:
            if has_golden(seen):
                return Asking(seen, again=False)
        elif every and now_s - last_s >= every and has_golden(seen):
            waiting.append((last_s, seen))
    if not waiting:
        return None
    return Asking(min(waiting, key=lambda each: each[0])[1], again=True)
