"""The only place where our types meet protobuf, with `codec_capacity`,
`codec_columns`, `codec_deltas`, `codec_sync` and `codec_trust`.

Input and output: values of `federation.contract.types` and messages of `v1/federation.proto`.
Tolerant of newer peers: protobuf itself ignores unknown fields, an unknown enum value becomes
UNKNOWN.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

import msgspec

from federation.contract import codec_capacity as capacity
from federation.contract import codec_rollout as rollout
from federation.contract import codec_sync as sync
from federation.contract import codec_trust
from federation.contract import types as t
from federation.contract.codec_deltas import Told
from federation.contract.device_use import UseColumns
from federation.contract.v1 import federation_pb2 as pb

E = TypeVar("E", bound=StrEnum)

_ENGINES = {
    t.EngineKind.TRITON: pb.ENGINE_KIND_TRITON,
    t.EngineKind.RAY_SERVE: pb.ENGINE_KIND_RAY_SERVE,
    t.EngineKind.STATIC: pb.ENGINE_KIND_STATIC,
    t.EngineKind.UNKNOWN: pb.ENGINE_KIND_UNSPECIFIED,
}
_STATES = {
    t.VersionState.PENDING: pb.VERSION_STATE_PENDING,
    t.VersionState.STAGED: pb.VERSION_STATE_STAGED,
    t.VersionState.VERIFIED: pb.VERSION_STATE_VERIFIED,
    t.VersionState.LOADED: pb.VERSION_STATE_LOADED,
    t.VersionState.WARMED: pb.VERSION_STATE_WARMED,
    t.VersionState.DRAINING: pb.VERSION_STATE_DRAINING,
    t.VersionState.CACHED: pb.VERSION_STATE_CACHED,
    t.VersionState.FAILED: pb.VERSION_STATE_FAILED,
    t.VersionState.UNKNOWN: pb.VERSION_STATE_UNSPECIFIED,
}
_PROTOCOLS = {
    t.ModelProtocol.TENSOR: pb.MODEL_PROTOCOL_TENSOR,
    t.ModelProtocol.TEXT: pb.MODEL_PROTOCOL_TEXT,
    t.ModelProtocol.UNKNOWN: pb.MODEL_PROTOCOL_UNSPECIFIED,
}
_CONNECTIVITIES = {
    t.Connectivity.DIAL: pb.CONNECTIVITY_DIAL,
    t.Connectivity.REVERSE: pb.CONNECTIVITY_REVERSE,
    t.Connectivity.UNKNOWN: pb.CONNECTIVITY_UNSPECIFIED,
}


class _EndpointRow(msgspec.Struct, gc=False):
    """What a message says of an endpoint, under the names of our type."""

    cluster: str
    region: str
    url: str
    location: pb.Location | None
    present: bool
    connectivity: t.Connectivity


def _reversed(table: Mapping[E, int]) -> dict[int, E]:
    return {number: name for name, number in table.items()}


_ENGINE_OF, _STATE_OF = _reversed(_ENGINES), _reversed(_STATES)
_PROTOCOL_OF = _reversed(_PROTOCOLS)
_CONNECTIVITY_OF = _reversed(_CONNECTIVITIES)
_CONNECTIVITY_OF[pb.CONNECTIVITY_UNSPECIFIED] = t.Connectivity.DIAL


def engine_from_proto(value: int) -> t.EngineKind:
    """Return the engine kind; UNKNOWN for a value of a newer peer."""
    return _ENGINE_OF.get(value, t.EngineKind.UNKNOWN)


def engine_to_proto(kind: t.EngineKind) -> "pb.EngineKind.ValueType":
    """Return the enum value of an engine kind."""
    return pb.EngineKind.ValueType(_ENGINES[kind])


def connectivity_from_proto(value: int) -> t.Connectivity:
    """Return how a cluster is reached; a peer from before the field was always dialled."""
    return _CONNECTIVITY_OF.get(value, t.Connectivity.UNKNOWN)


def connectivity_to_proto(connectivity: t.Connectivity) -> "pb.Connectivity.ValueType":
    """Return the enum value of a way to reach a cluster."""
    return pb.Connectivity.ValueType(_CONNECTIVITIES[connectivity])


def assignment_to_proto(assignment: t.Assignment) -> pb.Assignment:
    """Encode the desired state of a cluster."""
    return pb.Assignment(
        cluster=assignment.cluster,
        generation=assignment.generation,
        versions=[
            pb.AssignedVersion(
                model=v.model,
                version=v.version,
                digest=v.digest,
                replicas=v.replicas,
                max_replicas=v.max_replicas,
                stage_only=v.stage_only,
                urgency=sync.urgency_to_proto(v.urgency),
                needs=capacity.resources_to_proto(v.needs),
                golden_every_s=v.golden_every_s,
            )
            for v in assignment.versions
        ],
    )


def assignment_from_proto(message: pb.Assignment) -> t.Assignment:
    """Decode the desired state of a cluster."""
    return t.Assignment(
        cluster=message.cluster,
        generation=message.generation,
        versions=tuple(
            t.AssignedVersion(
                model=v.model,
                version=v.version,
                digest=v.digest,
                replicas=v.replicas,
                max_replicas=v.max_replicas,
                stage_only=v.stage_only,
                urgency=sync.urgency_from_proto(v.urgency),
                needs=capacity.resources_from_proto(v.needs),
                golden_every_s=v.golden_every_s,
            )
            for v in message.versions
        ),
    )


def report_to_proto(report: t.Report, compact: pb.CompactCapacity | None = None) -> pb.Report:
    """Encode what an agent sends up; `compact` is its capacity as a CapacityWriter wrote it."""
    return pb.Report(
        cluster=report.cluster,
        epoch=report.epoch,
        sequence=report.sequence,
        url=report.url,
        capacity=None if compact else capacity.capacity_to_proto(report.capacity),
        compact=compact,
        observed=_observed_to_proto(report.observed),
        disk=sync.disk_to_proto(report.disk),
    )


def _observed_to_proto(observed: t.Observed) -> pb.Observed:
    engine = observed.engine
    return pb.Observed(
        observed_generation=observed.observed_generation,
        engine=pb.EngineStatus(
            kind=engine_to_proto(engine.kind),
            version=engine.version,
            ready=engine.ready,
            reason=engine.reason,
        ),
        versions=[
            pb.ObservedVersion(
                model=v.model,
                version=v.version,
                digest=v.digest,
                state=pb.VersionState.ValueType(_STATES[v.state]),
                reason=v.reason,
                replicas=v.replicas,
                in_flight=v.in_flight,
                protocol=pb.ModelProtocol.ValueType(_PROTOCOLS[v.protocol]),
                sync=sync.progress_to_proto(v.sync),
                queued=v.queued,
                rate=v.rate,
                latency_ms=v.latency_ms,
                calibration=capacity.calibration_to_proto(v.calibration),
                golden=rollout.golden_to_proto(v.golden),
                losses=rollout.losses_to_proto(v.losses),
            )
            for v in observed.versions
        ],
    )


def report_from_proto(message: pb.Report, told: Told | None = None) -> t.Report:
    """Decode what an agent sends up; `told` is its capacity as a CapacityReader read it."""
    return t.Report(
        cluster=message.cluster,
        epoch=message.epoch,
        sequence=message.sequence,
        url=message.url,
        capacity=told.capacity if told else capacity.capacity_from_proto(message.capacity),
        use=told.use if told else UseColumns(),
        observed=_observed_from_proto(message.observed),
        disk=sync.disk_from_proto(message.disk),
    )


def _observed_from_proto(message: pb.Observed) -> t.Observed:
    return t.Observed(
        observed_generation=message.observed_generation,
        engine=t.EngineStatus(
            kind=engine_from_proto(message.engine.kind),
            version=message.engine.version,
            ready=message.engine.ready,
            reason=message.engine.reason,
        ),
        versions=tuple(
            t.ObservedVersion(
                model=v.model,
                version=v.version,
                digest=v.digest,
                state=_STATE_OF.get(v.state, t.VersionState.UNKNOWN),
                reason=v.reason,
                replicas=v.replicas,
                in_flight=v.in_flight,
                protocol=_PROTOCOL_OF.get(v.protocol, t.ModelProtocol.UNKNOWN),
                sync=sync.progress_from_proto(v.sync) if v.HasField("sync") else None,
                queued=v.queued if v.HasField("queued") else None,
                rate=v.rate,
                latency_ms=v.latency_ms,
                calibration=capacity.calibration_from_proto(v.calibration)
                if v.HasField("calibration")
                else None,
                golden=rollout.golden_from_proto(v.golden) if v.HasField("golden") else None,
                losses=rollout.losses_from_proto(v.losses) if v.HasField("losses") else None,
            )
            for v in message.versions
        ),
    )


def location_to_proto(location: t.Location | None) -> pb.Location | None:
    """Encode a place; None stays absent."""
    if location is None:
        return None
    return pb.Location(latitude=location.latitude, longitude=location.longitude)


def endpoint_to_proto(endpoint: t.Endpoint) -> pb.Endpoint:
    """Encode where a cluster is reached."""
    return pb.Endpoint(
        cluster=endpoint.cluster,
        region=endpoint.region,
        url=endpoint.url,
        location=location_to_proto(endpoint.location),
        absent=not endpoint.present,
        connectivity=connectivity_to_proto(endpoint.connectivity),
    )


def replica_to_proto(replica: t.Replica) -> pb.Replica:
    """Encode that a version is warm at a cluster."""
    return pb.Replica(
        model=replica.model,
        version=replica.version,
        cluster=replica.cluster,
        concurrency=replica.concurrency,
        latency_ms=replica.latency_ms,
    )


def snapshot_to_proto(snapshot: t.Snapshot) -> pb.Snapshot:
    """Encode a routing snapshot."""
    return pb.Snapshot(
        version=snapshot.version,
        models=[
            pb.ModelRoute(
                name=m.name,
                default_version=m.default_version,
                protocol=pb.ModelProtocol.ValueType(_PROTOCOLS[m.protocol]),
                aliases=dict(m.aliases),
                residency=m.residency,
                dormant=m.dormant,
                canary=rollout.canary_to_proto(m.canary),
            )
            for m in snapshot.models
        ],
        endpoints=map(endpoint_to_proto, snapshot.endpoints),
        replicas=map(replica_to_proto, snapshot.replicas),
        access=codec_trust.access_to_proto(snapshot.access),
        routers=[
            pb.RouterSite(name=r.name, url=r.url, location=location_to_proto(r.location))
            for r in snapshot.routers
        ],
    )


def snapshot_from_proto(message: pb.Snapshot) -> t.Snapshot:
    """Decode a routing snapshot; the caller checks `problems()` before it uses it."""
    return t.Snapshot(
        version=message.version,
        models=tuple(map(model_route_from_proto, message.models)),
        endpoints=tuple(endpoints_from_proto(message.endpoints)),
        replicas=tuple(replicas_from_proto(message.replicas)),
        access=codec_trust.access_from_proto(message.access),
        routers=tuple(map(router_site_from_proto, message.routers)),
    )


def model_route_from_proto(message: pb.ModelRoute) -> t.ModelRoute:
    """Decode what a snapshot says of a model."""
    canary = rollout.canary_from_proto(message.canary) if message.HasField("canary") else None
    return t.ModelRoute(
        name=message.name,
        default_version=message.default_version,
        protocol=_PROTOCOL_OF.get(message.protocol, t.ModelProtocol.UNKNOWN),
        aliases=dict(message.aliases),
        residency=tuple(message.residency),
        dormant=tuple(message.dormant),
        canary=canary,
    )


def endpoints_from_proto(messages: Iterable[pb.Endpoint]) -> list[t.Endpoint]:
    """Decode the gateways of clusters; of ten thousands, so all at once by msgspec."""
    known, unknown = _CONNECTIVITY_OF.get, t.Connectivity.UNKNOWN
    rows = [
        _EndpointRow(
            m.cluster,
            m.region,
            m.url,
            m.location if m.HasField("location") else None,
            not m.absent,
            known(m.connectivity, unknown),
        )
        for m in messages
    ]
    return msgspec.convert(rows, list[t.Endpoint], from_attributes=True)


def replicas_from_proto(messages: Iterable[pb.Replica]) -> list[t.Replica]:
    """Decode warm model versions at clusters: both sides name the same fields."""
    return msgspec.convert(list(messages), list[t.Replica], from_attributes=True)


def router_site_from_proto(message: pb.RouterSite) -> t.RouterSite:
    """Decode where clients reach a router."""
    return t.RouterSite(
        name=message.name,
        url=message.url,
        location=location_from_proto(message.location) if message.HasField("location") else None,
    )


def location_from_proto(message: pb.Location) -> t.Location:
    """Decode a place."""
    return t.Location(latitude=message.latitude, longitude=message.longitude)
