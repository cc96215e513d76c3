"""How many replicas of a model a cluster has: a fixed number, or as many as the load asks for.

Input: what a model owner writes. Output: a Scaling, and what is wrong with one in words. Standard
library only, so that deciders may use it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

MAX_REPLICAS = 1_000
_MAX_WINDOW_S = 86_400.0


class ScalingMode(StrEnum):
    """Who decides how many replicas a cluster has."""

    FIXED = "fixed"  # the deployment: `replicas`
    AUTO = "auto"  # the control plane, by the load that the cluster reports
    ENGINE = "engine"  # the engine's own autoscaler, where it has one


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How many replicas each cluster has, if it is not a fixed number.

    `min` to `max`, such that they are busy to `target` (a share of what they can do, above 0 to 1).
    More come when the load asked for more during all of `up_s` seconds, fewer go when it asked for
    fewer during all of `down_s`.
    """

    mode: ScalingMode = ScalingMode.FIXED
    min: int = 1
    max: int = 1
    target: float = 0.7
    up_s: float = 15.0
    down_s: float = 300.0

    def within(self, replicas: int) -> int:
        """Return the number that is nearest to `replicas` and inside the limits."""
        return max(self.min, min(replicas, self.max))


def scaling_problems(scaling: Scaling) -> Iterator[str]:
    """Yield what is wrong with it, in sentences."""
    if not 1 <= scaling.min <= scaling.max <= MAX_REPLICAS:
        yield (
            f"scaling: min and max must be 1 to {MAX_REPLICAS}, min at most max, "
            f"not {scaling.min} and {scaling.max}."
        )
    if not 0 < scaling.target <= 1:
        yield f"scaling: target is a share above 0, at most 1, not {scaling.target:g}."
    for name in ("up_s", "down_s"):
        value = getattr(scaling, name)
        if not (math.isfinite(value) and 0 <= value <= _MAX_WINDOW_S):
            yield f"scaling: {name} must be 0 to {_MAX_WINDOW_S:.0f} seconds, not {value:g}."
