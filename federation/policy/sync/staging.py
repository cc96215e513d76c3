"""Which versions of a model lie ready at a cluster without being loaded, and why not, in words.

Input: prefetches with their versions looked up, a cluster's Room, and what it is to serve of the
model. Output: the versions to stage there. `settle` applies it to the State.

Staging is free of the care that serving needs: nothing is in flight there, so a version that nobody
wants staged any more goes at once.
"""

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass

from federation.contract.resources import PrefetchSpec
from federation.contract.types import AssignedVersion, Urgency, VersionState
from federation.policy.lookup import version as lookup_version
from federation.policy.lookup import version_or_none
from federation.policy.placement import Fit, judge_staging, not_selected
from federation.policy.records import ClusterRecord, VersionRecord
from federation.policy.rollouts.placing import canary_of
from federation.policy.rooms import Room
from federation.policy.state import State

READY = frozenset(
    {VersionState.VERIFIED, VersionState.LOADED, VersionState.WARMED, VersionState.CACHED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """A prefetch with its version looked up, or what a rollout wants ready: `clusters`."""

    spec: PrefetchSpec
    version: VersionRecord
    clusters: frozenset[str] | None = None

    def selects(self, cluster: ClusterRecord) -> bool:
        """Whether the prefetch is about this cluster."""
        if self.clusters is not None:
            return cluster.meta.name in self.clusters
        return not not_selected(self.spec, cluster.spec)


def stagings(state: State, models: Set[str] | None = None) -> Mapping[str, tuple[Staging, ...]]:
    """Return all prefetches by model, and what rollouts stage ahead of their waves: of `models`, or
    of all."""
    found: dict[str, tuple[Staging, ...]] = {}
    for prefetch in state.prefetches.values():
        spec = prefetch.spec
        if models is not None and spec.model not in models:
            continue
        model = state.models.get(spec.model)
        if model and (version := version_or_none(model, spec.version)):
            found[spec.model] = (*found.get(spec.model, ()), Staging(spec=spec, version=version))
    for name in state.going if models is None else state.going.keys() & models:
        canary, model = canary_of(state, name), state.models.get(name)
        if canary and canary.ahead and model:
            version = lookup_version(model, canary.version)
            spec = PrefetchSpec(model=name, version=canary.version)
            ahead = Staging(spec=spec, version=version, clusters=canary.ahead)
            found[name] = (*found.get(name, ()), ahead)
    return found


def stage(
    wanted: Iterable[Staging], room: Room, model: str, served: Collection[int]
) -> tuple[AssignedVersion, ...]:
    """Return the versions of one model that the cluster shall stage, besides those it serves."""
    held = {v.version for v in room.held(model)}
    chosen: dict[int, AssignedVersion] = {}
    for staging in wanted:
        number = staging.version.version
        if number in served or not staging.selects(room.record):
            continue
        fit = judge_staging(room, staging.version, model).fit
        if fit is Fit.FITS or (fit is Fit.KEEPS and number in held):
            chosen[number] = AssignedVersion(
                model=model,
                version=number,
                digest=staging.version.digest,
                stage_only=True,
                urgency=Urgency.PREFETCH,
            )
    return tuple(chosen.values())
