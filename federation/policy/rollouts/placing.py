"""What a rollout means for placement and for routers.

Input: the State. Output: a Canary for a model's wish, a CanaryRoute for its snapshot, and where the
canary must not be shown. Nothing is decided here: it follows from the records.
"""

from dataclasses import dataclass

from federation.contract.rollout import CanaryRoute
from federation.policy import lookup
from federation.policy.rollouts import evidence
from federation.policy.rollouts.ongoing import all_going, moving
from federation.policy.rollouts.records import Phase, RolloutRecord
from federation.policy.state import State

Hidden = frozenset[tuple[str, int, str]]  # model, version, cluster
ASK_AGAIN_S = 300  # so often a canary is asked its golden inputs: engines decay


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A second version of a model: loaded `at` some clusters, lying ready `ahead` at others.

    `withdrawn`: it was rejected, and goes at once. `in_place`: where both do not fit, the stable
    version goes first. `urgent`: it served before, and something is wrong with its successor.
    Its golden inputs are asked again each `golden_every_s`.
    """

    version: int
    at: frozenset[str] = frozenset()
    ahead: frozenset[str] = frozenset()
    in_place: bool = False
    withdrawn: bool = False
    urgent: bool = False
    golden_every_s: int = 0


def canary_of(state: State, model: str) -> Canary | None:
    """Return the canary of a model, if a rollout of it goes on."""
    record = moving(state, model)
    if record is None:
        return None
    in_place = record.spec.strategy.in_place
    if record.phase is Phase.ROLLING_BACK and record.weighed_at is not None:
        at = _clusters(record)
        return Canary(version=record.canary, withdrawn=True, at=at, in_place=in_place)
    ahead: frozenset[str] = frozenset()
    if record.phase is not Phase.ROLLING_BACK and record.wave + 1 < len(record.waves):
        ahead = frozenset(record.waves[record.wave + 1].clusters)
    return Canary(
        version=record.canary,
        at=_clusters(record),
        ahead=ahead,
        in_place=in_place,
        urgent=record.undo,
        golden_every_s=ASK_AGAIN_S if has_golden(state, record) else 0,
    )


def has_golden(state: State, record: RolloutRecord) -> bool:
    """Whether a rollout's canary is judged by golden inputs."""
    package = lookup.version(state.models[record.spec.model], record.canary).package
    return record.spec.strategy.analysis.enabled and package.golden is not None


def _clusters(record: RolloutRecord) -> frozenset[str]:
    return frozenset(name for wave in record.entered for name in wave.clusters)


def weights_of(record: RolloutRecord) -> dict[str, float]:
    """Return the canary's share by region, in percent, as it was ordered; none while it goes back.

    A region in several waves has the largest of their shares: raising never moves a client back.
    """
    found: dict[str, float] = {}
    if not record.moving or record.phase is Phase.ROLLING_BACK:
        return found
    for wave in record.waves:
        for region in wave.regions if wave.weight else ():
            found[region] = max(wave.weight, found.get(region, 0.0))
    return found


def route_of(state: State, model: str) -> CanaryRoute | None:
    """Return what routers are told of a model's canary, if anything."""
    record = moving(state, model)
    if record is None or record.phase is Phase.ROLLING_BACK:
        return None
    return CanaryRoute(
        rollout=record.meta.name,
        version=record.canary,
        weights=weights_of(record),
        slow=evidence.slow_of(state, record),
        shadow_percent=record.spec.strategy.analysis.shadow_percent,
    )


def hidden(state: State) -> Hidden:
    """Return where a canary is warm and must not be seen yet: its wave has no weight, while its
    region has one from an earlier wave."""
    found = set()
    for record in all_going(state):
        if not record.moving or record.waves[record.wave].weight:
            continue
        weights = weights_of(record)
        model, canary = record.spec.model, record.canary
        for wave in record.entered:  # a person may have skipped some
            if not wave.weight and any(region in weights for region in wave.regions):
                found |= {(model, canary, cluster) for cluster in wave.clusters}
    return frozenset(found)
