"""What routers are told: built whole from the State, consistent by construction.

Input: a State. Output: a Snapshot; the control loop numbers it and sends it if it differs from the
last one. Clusters that lost contact stay in it with `present` False; draining clusters leave it,
and so do those that are no members (any more).
"""

from dataclasses import replace
from datetime import datetime

from federation.contract.types import (
    Connectivity,
    Endpoint,
    EngineKind,
    ModelRoute,
    ObservedVersion,
    Replica,
    Snapshot,
    VersionState,
)
from federation.policy.access.travelling import access_of
from federation.policy.placement import Wish
from federation.policy.records import ClusterRecord
from federation.policy.settle import wishes_of
from federation.policy.standing import is_present, is_routable, warm_versions
from federation.policy.state import State


def build(state: State, version: int, now: datetime | None = None) -> Snapshot:
    """Return the snapshot of this state under the given version number; `now` ends old keys."""
    wishes = wishes_of(state)
    routable = {n: c for n, c in sorted(state.clusters.items()) if is_routable(c)}
    replicas = [
        Replica(model=assigned.model, version=assigned.version, cluster=name)
        for name, record in routable.items()
        for assigned in warm_versions(record)
        if assigned.model in wishes
    ]
    static = {
        (name, seen.model, seen.version): seen
        for name, record in routable.items()
        for seen in _unclaimed(state, record)
    }
    replicas += [Replica(model=m, version=v, cluster=c) for c, m, v in static]
    routed = {d.spec.model: d.routed_version for d in state.deployments.values()}
    routes = [_route(state, wish, routed[name]) for name, wish in wishes.items()]
    return Snapshot(
        version=version,
        models=tuple(
            sorted([*routes, *_static_routes(list(static.values()))], key=lambda r: r.name)
        ),
        endpoints=tuple(_endpoint(state, record) for record in routable.values()),
        replicas=tuple(sorted(replicas, key=lambda r: (r.model, r.version, r.cluster))),
        access=access_of(state, now),
    )


def same_content(one: Snapshot, other: Snapshot) -> bool:
    """Whether two snapshots differ in nothing but their version number."""
    return replace(one, version=other.version) == other


def _route(state: State, wish: Wish, routed: int) -> ModelRoute:
    model = state.models[wish.spec.model]
    default = routed or wish.target
    return ModelRoute(
        name=wish.spec.model,
        default_version=default,
        protocol=wish.versions[default].package.protocol,
        aliases=dict(sorted(model.spec.aliases.items())),
        residency=tuple(sorted(wish.spec.residency)),
    )


def _unclaimed(state: State, record: ClusterRecord) -> list[ObservedVersion]:
    """Return the warm versions of a static engine whose model nobody registered."""
    if record.last is None or record.last.engine is not EngineKind.STATIC:
        return []
    return [
        seen
        for seen in record.last.observed.versions
        if seen.state is VersionState.WARMED and seen.model not in state.models
    ]


def _static_routes(seen: list[ObservedVersion]) -> list[ModelRoute]:
    newest: dict[str, ObservedVersion] = {}
    for version in seen:
        if version.model not in newest or version.version > newest[version.model].version:
            newest[version.model] = version
    return [
        ModelRoute(name=v.model, default_version=v.version, protocol=v.protocol)
        for v in newest.values()
    ]


def _endpoint(state: State, record: ClusterRecord) -> Endpoint:
    region = state.regions.get(record.spec.region)
    reverse = record.spec.connectivity is Connectivity.REVERSE
    return Endpoint(
        cluster=record.meta.name,
        region=record.spec.region,
        url=record.last.url if record.last and not reverse else "",
        location=region.spec.location if region else None,
        present=is_present(state, record.meta.name),
        connectivity=record.spec.connectivity,
    )
