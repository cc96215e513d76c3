"""What routers are told: built whole from the State, consistent by construction.

Input: a State. Output: a Snapshot; the control loop numbers it and sends it if it differs from the
last one. Clusters that lost contact stay in it with `present` False; draining clusters leave it,
and so do those that are no members (any more).
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from federation.contract.capacity import Calibration
from federation.contract.types import (
    AssignedVersion,
    Connectivity,
    Endpoint,
    EngineKind,
    ModelRoute,
    ObservedVersion,
    Replica,
    RouterSite,
    Snapshot,
    VersionState,
)
from federation.policy.access.travelling import access_of
from federation.policy.placement import Wish
from federation.policy.records import ClusterRecord, RegionRecord
from federation.policy.rollouts.placing import hidden, route_of
from federation.policy.settle import wishes_of
from federation.policy.standing import is_present, is_routable, warm_versions
from federation.policy.state import State


@dataclass(frozen=True, slots=True)
class _Part:
    """What of a snapshot follows from one cluster: from these records, and whether it is present.

    `warm` and, of a static engine, `shown` by model and version.
    """

    record: ClusterRecord
    region: RegionRecord | None
    endpoint: Endpoint
    warm: tuple[tuple[tuple[str, int], Replica], ...]
    shown: tuple[ObservedVersion, ...]


class Parts:
    """Remembers what followed from each cluster: of a thousand, one or two changed since."""

    def __init__(self) -> None:
        self._known: dict[str, _Part] = {}

    def __repr__(self) -> str:
        return f"Parts({len(self._known)})"

    def of(self, state: State) -> list[_Part]:
        """Return those of the clusters that requests may go to, ordered by name."""
        self._known = {
            name: self._part(state, name, record)
            for name, record in sorted(state.clusters.items())
            if is_routable(record)
        }
        return list(self._known.values())

    def _part(self, state: State, name: str, record: ClusterRecord) -> _Part:
        known = self._known.get(name)
        region, present = state.regions.get(record.spec.region), is_present(state, name)
        if (
            known is not None
            and known.record is record
            and known.region is region
            and known.endpoint.present is present
        ):
            return known
        measured, before = _measured(record), dict(known.warm) if known is not None else {}
        warm = {
            (v.model, v.version): _replica(before, v, name, measured.get((v.model, v.version)))
            for v in warm_versions(record)
        }
        endpoint = _endpoint(record, region, present=present)
        if known is not None and known.endpoint == endpoint:
            endpoint = known.endpoint  # equal things stay one object: to compare them costs nothing
        return _Part(record, region, endpoint, tuple(warm.items()), tuple(_shown(record)))


def _measured(record: ClusterRecord) -> dict[tuple[str, int], Calibration]:
    """Return what was measured there, by model and version."""
    versions = record.last.observed.versions if record.last else ()
    return {(v.model, v.version): v.calibration for v in versions if v.calibration}


def _replica(
    before: Mapping[tuple[str, int], Replica],
    version: AssignedVersion,
    cluster: str,
    measured: Calibration | None,
) -> Replica:
    replica = Replica(
        model=version.model,
        version=version.version,
        cluster=cluster,
        concurrency=measured.concurrency if measured else 0,
        latency_ms=measured.latency_ms if measured else 0.0,
    )
    held = before.get((version.model, version.version))
    return held if held is not None and held == replica else replica


def build(
    state: State, version: int, now: datetime | None = None, parts: Parts | None = None
) -> Snapshot:
    """Return the snapshot of this state under the given version number; `now` ends old keys.

    With the `parts` of the last one it is quicker, and the same.
    """
    wishes, unseen = wishes_of(state), hidden(state)
    endpoints: list[Endpoint] = []
    replicas: dict[tuple[str, int], list[Replica]] = {}
    static: dict[tuple[str, int], ObservedVersion] = {}
    for part in (parts or Parts()).of(state):
        endpoints.append(part.endpoint)
        for key, replica in part.warm:
            if unseen and (*key, part.endpoint.cluster) in unseen:
                continue
            if key[0] in wishes:
                replicas.setdefault(key, []).append(replica)
        unclaimed = {(v.model, v.version): v for v in part.shown if v.model not in state.models}
        for key, seen in unclaimed.items():
            static[key] = seen
            here = Replica(model=seen.model, version=seen.version, cluster=part.endpoint.cluster)
            replicas.setdefault(key, []).append(here)
    routed = {d.spec.model: d.routed_version for d in state.deployments.values()}
    routes = [_route(state, wish, routed[name], replicas) for name, wish in wishes.items()]
    return Snapshot(
        version=version,
        models=tuple(sorted([*routes, *_static_routes(static.values())], key=lambda r: r.name)),
        endpoints=tuple(endpoints),
        replicas=tuple(replica for key in sorted(replicas) for replica in replicas[key]),
        access=access_of(state, now),
        routers=tuple(_sites(state)),
    )


def _sites(state: State) -> Iterator[RouterSite]:
    """Yield the routers to which clients may be told to go: those that we are in contact with."""
    for name, seen in sorted(state.routers.items()):
        if seen.connected and seen.url:
            yield RouterSite(name=name, url=seen.url, location=seen.location)


def same_content(one: Snapshot, other: Snapshot) -> bool:
    """Whether two snapshots differ in nothing but their version number."""
    return replace(one, version=other.version) == other


def _route(state: State, wish: Wish, routed: int, loaded: Container[tuple[str, int]]) -> ModelRoute:
    model = state.models[wish.spec.model]
    default = routed or wish.target
    come = {default, wish.target, *wish.spec.pinned_versions} if wish.spec.scaling.may_sleep else ()
    return ModelRoute(
        name=wish.spec.model,
        default_version=default,
        protocol=wish.versions[default].package.protocol,
        aliases=dict(sorted(model.spec.aliases.items())),
        residency=tuple(sorted(wish.spec.residency)),
        dormant=tuple(sorted(v for v in come if (wish.spec.model, v) not in loaded)),
        canary=route_of(state, wish.spec.model),
    )


def _shown(record: ClusterRecord) -> Iterator[ObservedVersion]:
    """Yield the warm versions of a static engine: models that nobody registered may be there."""
    if record.last is not None and record.last.engine is EngineKind.STATIC:
        for seen in record.last.observed.versions:
            if seen.state is VersionState.WARMED:
                yield seen


def _static_routes(seen: Iterable[ObservedVersion]) -> list[ModelRoute]:
    newest: dict[str, ObservedVersion] = {}
    for version in seen:
        if version.model not in newest or version.version > newest[version.model].version:
            newest[version.model] = version
    return [
        ModelRoute(name=v.model, default_version=v.version, protocol=v.protocol)
        for v in newest.values()
    ]


def _endpoint(record: ClusterRecord, region: RegionRecord | None, *, present: bool) -> Endpoint:
    reverse = record.spec.connectivity is Connectivity.REVERSE
    return Endpoint(
        cluster=record.meta.name,
        region=record.spec.region,
        url=record.last.url if record.last and not reverse else "",
        location=region.spec.location if region else None,
        present=present,
        connectivity=record.spec.connectivity,
    )
