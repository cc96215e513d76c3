"""What routers are told: built whole from the State, consistent by construction.

Input: a State. Output: a Snapshot; the control loop numbers it and sends it if it differs from the
last one. Clusters that lost contact stay in it with `present` False; draining clusters leave it,
and so do those that are no members (any more).
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

from federation.contract.types import (
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
from federation.policy.placement import Wish, wish_of
from federation.policy.records import ClusterRecord, RegionRecord
from federation.policy.rollouts.placing import Hidden, hidden, route_of
from federation.policy.standing import is_present, is_routable, is_warm
from federation.policy.state import State

Key = tuple[str, int]  # model, version
Warm = Mapping[Key, Replica]


@dataclass(frozen=True, slots=True)
class _Part:
    """What of a snapshot follows from one cluster: from these records, and whether it is present.

    `warm` and, of a static engine, `shown`.
    """

    record: ClusterRecord
    region: RegionRecord | None
    endpoint: Endpoint
    warm: Warm
    shown: tuple[ObservedVersion, ...]


class Parts:
    """Remembers what followed from each cluster: of a thousand, one or two changed since.

    `replicas` are those of all clusters, by model and version, each ordered by cluster.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Part] = {}
        self.replicas: dict[Key, tuple[Replica, ...]] = {}

    def __repr__(self) -> str:
        return f"Parts({len(self._known)})"

    def of(self, state: State) -> list[_Part]:
        """Return those of the clusters that requests may go to, ordered by name."""
        before, self._known = (
            self._known,
            {
                name: self._part(state, name, record)
                for name, record in sorted(state.clusters.items())
                if is_routable(record)
            },
        )
        if changed := _changed(before, self._known):
            self._renew(changed)
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
        endpoint = _endpoint(record, region, present=present)
        if known is None:
            return _Part(record, region, endpoint, _warm(record, {}), tuple(_shown(record)))
        if known.endpoint == endpoint:
            endpoint = known.endpoint  # equal things stay one object: to compare them costs nothing
        if known.record.last is not record.last:
            warm, shown = _warm(record, known.warm), tuple(_shown(record))
        else:
            warm, shown = _reassigned(known.record, record, known.warm), known.shown
        return _Part(record, region, endpoint, warm, shown)

    def _renew(self, changed: set[Key]) -> None:
        """Look for the replicas of some versions anew."""
        known, found = self._known.values(), dict[Key, list[Replica]]()
        if len(changed) * len(known) < sum(len(part.warm) for part in known):
            for key in changed:
                found[key] = [part.warm[key] for part in known if key in part.warm]
        else:
            for part in known:
                for key in changed & part.warm.keys():
                    found.setdefault(key, []).append(part.warm[key])
        for key in changed:
            if replicas := found.get(key):
                self.replicas[key] = tuple(replicas)
            else:
                self.replicas.pop(key, None)
        self.replicas = dict(sorted(self.replicas.items()))


def _changed(before: Mapping[str, _Part], after: Mapping[str, _Part]) -> set[Key]:
    """Return the versions that have other replicas than before."""
    found: set[Key] = set()
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        was, now = old.warm if old else {}, new.warm if new else {}
        if was is not now:
            found |= was.keys() - now.keys()
            found |= {key for key, replica in now.items() if was.get(key) is not replica}
    return found


def _warm(record: ClusterRecord, before: Warm) -> Warm:
    """Return the replicas of a cluster; those that are as before stay one object."""
    told = record.last.observed.versions if record.last else ()
    seen = {(v.model, v.version): v for v in told if v.state is VersionState.WARMED}
    found = {}
    for version in record.assignment.versions:
        key = version.model, version.version
        warm = None if version.stage_only else seen.get(key)
        if warm is not None and warm.digest == version.digest:
            found[key] = _replica(record.meta.name, warm, before.get(key))
    return found


def _reassigned(old: ClusterRecord, new: ClusterRecord, warm: Warm) -> Warm:
    """Return the same where only the assignment is another: most of it is what it was."""
    was, now = old.assignment.versions, new.assignment.versions
    if was is now:
        return warm
    held, kept = (dict(zip(map(id, each), each, strict=True)) for each in (was, now))
    gone = [held[known] for known in held.keys() - kept.keys()]
    come = [kept[known] for known in kept.keys() - held.keys()]
    if any((v.model, v.version) in warm for v in gone):
        return _warm(new, warm)
    if any(not v.stage_only and is_warm(new, v) for v in come):
        return _warm(new, warm)
    return warm


def _replica(cluster: str, seen: ObservedVersion, held: Replica | None) -> Replica:
    measured = seen.calibration
    concurrency = measured.concurrency if measured else 0
    latency_ms = measured.latency_ms if measured else 0.0
    if held and (held.concurrency, held.latency_ms) == (concurrency, latency_ms):
        return held
    return Replica(
        model=seen.model,
        version=seen.version,
        cluster=cluster,
        concurrency=concurrency,
        latency_ms=latency_ms,
    )


def build(
    state: State, version: int, now: datetime | None = None, parts: Parts | None = None
) -> Snapshot:
    """Return the snapshot of this state under the given version number; `now` ends old keys.

    With the `parts` of the last one it is quicker, and the same.
    """
    parts = parts or Parts()
    deployed = {d.spec.model: d for d in state.deployments.values()}
    of_clusters = parts.of(state)
    replicas = {key: found for key, found in parts.replicas.items() if key[0] in deployed}
    _hide(replicas, hidden(state))
    static: dict[Key, ObservedVersion] = {}
    for part in of_clusters:
        unclaimed = {(v.model, v.version): v for v in part.shown if v.model not in state.models}
        for key, seen in unclaimed.items():
            static[key] = seen
            here = Replica(model=seen.model, version=seen.version, cluster=part.endpoint.cluster)
            replicas[key] = (*replicas.get(key, ()), here)
    routes = [
        _route(state, wish_of(record, state.models[name]), record.routed_version, replicas)
        for name, record in deployed.items()
    ]
    return Snapshot(
        version=version,
        models=tuple(sorted([*routes, *_static_routes(static.values())], key=lambda r: r.name)),
        endpoints=tuple(part.endpoint for part in of_clusters),
        replicas=tuple(chain.from_iterable(replicas[key] for key in sorted(replicas))),
        access=access_of(state, now),
        routers=tuple(_sites(state)),
    )


def _hide(replicas: dict[Key, tuple[Replica, ...]], unseen: Hidden) -> None:
    """Leave out what must not be seen yet."""
    for model, version, cluster in unseen:
        if held := replicas.get((model, version)):
            replicas[model, version] = tuple(r for r in held if r.cluster != cluster)
    for key in [key for key, held in replicas.items() if not held]:
        del replicas[key]


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
