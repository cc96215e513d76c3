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
    fewer during all of `down_s`. A `min` of 0: as 1 while anybody uses the model; when nobody did
    anywhere during all of `down_s`, it sleeps, with no replica at any cluster, until it is asked
    for.
    """

    mode: ScalingMode = ScalingMode.FIXED
    min: int = 1
    max: int = 1
    target: float = 0.7
    up_s: float = 15.0
    down_s: float = 300.0

    @property
    def may_sleep(self) -> bool:
        """Whether it may have no replica at all."""
        return self.mode is ScalingMode.AUTO and self.min == 0

    @property
    def least(self) -> int:
        """The fewest replicas that a cluster has while it serves."""
        return max(self.min, 1)

    def within(self, replicas: int) -> int:
        """Return the number that is nearest to `replicas` and inside the limits, of a model that
        does not sleep."""
        return max(self.least, min(replicas, self.max))


def scaling_problems(scaling: Scaling) -> Iterator[str]:
    """Yield what is wrong with it, in sentences."""
    if not 0 <= scaling.min <= scaling.max <= MAX_REPLICAS or scaling.max < 1:
        yield (
            f"scaling: min must be 0 to {MAX_REPLICAS}, max 1 to {MAX_REPLICAS}, min at most max, "
            f"not {scaling.min} and {scaling.max}."
        )
    if scaling.min == 0 and scaling.mode is not ScalingMode.AUTO:
        # Routers hold requests while a replica comes; an engine that sleeps by itself tells nobody.
        yield (
            f"scaling: a min of 0 needs mode auto, where the control plane decides, not "
            f"{scaling.mode}."
        )
    if not 0 < scaling.target <= 1:
        yield f"scaling: target is a share above 0, at most 1, not {scaling.target:g}."
    for name in ("up_s", "down_s"):
        value = getattr(scaling, name)
        if not (math.isfinite(value) and 0 <= value <= _MAX_WINDOW_S):
            yield f"scaling: {name} must be 0 to {_MAX_WINDOW_S:.0f} seconds, not {value:g}."
