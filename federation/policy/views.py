"""The documents that the operator API shows: apiVersion, kind, metadata, spec, status.

Input: a State. Output: JSON-ready dicts. Every status says in words why something is not as wished.
"""

from collections.abc import Callable
from datetime import datetime

from federation.contract.errors import Invalid
from federation.contract.names import did_you_mean
from federation.contract.resources import API_VERSION
from federation.policy import lookup
from federation.policy.access.key_view import key_status
from federation.policy.access.records import KeyRecord, TenantRecord
from federation.policy.access.tenant_view import tenant_status
from federation.policy.cluster_view import cluster_status
from federation.policy.deployment_view import deployment_status
from federation.policy.membership.records import RouterRecord
from federation.policy.meta import Meta
from federation.policy.plain import Json, moment, plain
from federation.policy.records import (
    AuditRecord,
    ClusterRecord,
    DeploymentRecord,
    ModelRecord,
    RegionRecord,
)
from federation.policy.rollouts.records import RolloutRecord
from federation.policy.rollouts.rollout_view import rollout_status
from federation.policy.rooms import Rooms
from federation.policy.router_view import router_status
from federation.policy.state import State
from federation.policy.sync.prefetch_view import prefetch_status
from federation.policy.sync.records import PrefetchRecord

Document = Json


def documents(state: State, kind: str, now: datetime) -> list[Document]:
    """Return all documents of a kind ("Cluster"), by name; events oldest first. Raises Invalid."""
    names = _names(state, kind)
    if kind == "Deployment":
        rooms = Rooms(state)
        rooms.models()  # many questions follow
        return [_deployment(state, name, now, rooms) for name in names]
    return [document(state, kind, name, now) for name in names]


def document(state: State, kind: str, name: str, now: datetime) -> Document:
    """Return one document; raises NotFound with near misses."""
    _names(state, kind)
    return _VIEWS[kind](state, name, now)


def _names(state: State, kind: str) -> list[str]:
    if kind == "Event":
        return list(state.audit)
    if kind not in _VIEWS:
        raise Invalid(f"{kind!r} is not a kind.", hint=did_you_mean(kind, _VIEWS))
    return sorted(state.table(kind))


def _document(
    kind: str,
    record: RegionRecord
    | ClusterRecord
    | ModelRecord
    | DeploymentRecord
    | RolloutRecord
    | PrefetchRecord
    | RouterRecord
    | TenantRecord,
    status: Json,
) -> Document:
    meta = record.meta
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": _metadata(meta),
        "spec": plain(record.spec),
        "status": status,
    }


def _metadata(meta: Meta) -> Json:
    return {
        "name": meta.name,
        "generation": meta.generation,
        "resourceVersion": meta.resource_version,
        "createdAt": moment(meta.created_at),
    }


def _region(state: State, name: str, _now: datetime) -> Document:
    record = lookup.region(state, name)
    clusters = sorted(n for n, c in state.clusters.items() if c.spec.region == name)
    return _document("Region", record, {"clusters": clusters})


def _cluster(state: State, name: str, now: datetime) -> Document:
    record = lookup.cluster(state, name)
    return _document("Cluster", record, cluster_status(state, record, now))


def _model(state: State, name: str, _now: datetime) -> Document:
    record = lookup.model(state, name)
    versions = [
        {
            "version": v.version,
            "digest": v.digest,
            "size": v.size,
            "files": v.files,
            "runtime": v.package.runtime.value,
            "protocol": v.package.protocol.value,
            "source": v.source,
            "signed_by": list(v.signed_by),
            "created_at": moment(v.created_at),
        }
        for v in record.versions
    ]
    latest = record.versions[-1].version if record.versions else 0
    return _document("Model", record, {"versions": versions, "latest": latest})


def _deployment(state: State, name: str, now: datetime, rooms: Rooms | None = None) -> Document:
    record = lookup.deployment(state, name)
    return _document("Deployment", record, deployment_status(state, record, now, rooms))


def _rollout(state: State, name: str, now: datetime) -> Document:
    record: RolloutRecord = lookup.find("Rollout", state.rollouts, name)
    return _document("Rollout", record, rollout_status(state, record, now))


def _prefetch(state: State, name: str, now: datetime) -> Document:
    record: PrefetchRecord = lookup.find("Prefetch", state.prefetches, name)
    return _document("Prefetch", record, prefetch_status(state, record, now))


def _router(state: State, name: str, _now: datetime) -> Document:
    record: RouterRecord = lookup.find("Router", state.registered_routers, name)
    return _document("Router", record, router_status(state, record))


def _tenant(state: State, name: str, now: datetime) -> Document:
    record: TenantRecord = lookup.find("Tenant", state.tenants, name)
    return _document("Tenant", record, tenant_status(state, record, now))


def _key(state: State, name: str, now: datetime) -> Document:
    record: KeyRecord = lookup.find("Key", state.keys, name)
    return {
        "apiVersion": API_VERSION,
        "kind": "Key",
        "metadata": _metadata(record.meta),
        "spec": {},
        "status": key_status(record, now),
    }


def _event(state: State, name: str, _now: datetime) -> Document:
    record: AuditRecord = lookup.find("Event", state.audit, name)
    return {
        "apiVersion": API_VERSION,
        "kind": "Event",
        "metadata": {"name": name, "createdAt": moment(record.at)},
        "spec": {},
        "status": {
            "at": moment(record.at),
            "actor": record.actor,
            "kind": record.kind,
            "name": record.name,
            "reason": record.reason,
            "message": record.message,
        },
    }


_VIEWS: dict[str, Callable[[State, str, datetime], Document]] = {
    "Region": _region,
    "Cluster": _cluster,
    "Model": _model,
    "Deployment": _deployment,
    "Rollout": _rollout,
    "Prefetch": _prefetch,
    "Router": _router,
    "Tenant": _tenant,
    "Key": _key,
    "Event": _event,
}
