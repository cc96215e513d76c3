"""All that the control plane knows, and the Step in which one event changes it.

Input: records from the store, then the deciders of this package. Output: what `views` shows and
`snapshot` sends. One writer: only `decide` changes a State, and only after all its checks passed.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from federation.contract.types import Report
from federation.policy.access.records import KeyRecord, TenantRecord
from federation.policy.analysis.analysis import Analysis
from federation.policy.analysis.desk import Desk
from federation.policy.analysis.reference import References
from federation.policy.audit.records import Head
from federation.policy.autoscaling import Scale
from federation.policy.events import Applied, Command, Delete, PublishSnapshot, Put, Touch, WakeAt
from federation.policy.membership.records import RevocationRecord, RouterRecord
from federation.policy.meta import Meta
from federation.policy.records import (
    AuditRecord,
    ClusterRecord,
    DeploymentRecord,
    ModelRecord,
    Presence,
    Receipt,
    RegionRecord,
    RetiredModel,
    RouterPresence,
)
from federation.policy.rollouts.records import EvidenceRecord, RolloutRecord, going_by_model
from federation.policy.settled import Settled
from federation.policy.sync.records import PrefetchRecord

AUDIT_LIMIT = 2_000
RECEIPT_LIMIT = 10_000
RECEIPT_AGE = timedelta(hours=24)

ScaleKey = tuple[str, str, int]  # cluster, model, version


@dataclass(slots=True, kw_only=True)
class State:
    """Records by name, and what lives in memory only: presences, newest reports, routers."""

    lease: timedelta = timedelta(seconds=10)
    leaf_life: timedelta = timedelta(hours=24)  # how long a certificate lasts at most
    trust_domain: str = "federation.internal"
    pepper: str = ""  # hex, secret: what keys are hashed with
    revision: int = 0  # of the last change; every change of an object takes the next one
    regions: dict[str, RegionRecord] = field(default_factory=dict)
    clusters: dict[str, ClusterRecord] = field(default_factory=dict)
    models: dict[str, ModelRecord] = field(default_factory=dict)
    deployments: dict[str, DeploymentRecord] = field(default_factory=dict)
    rollouts: dict[str, RolloutRecord] = field(default_factory=dict)
    evidence: dict[str, EvidenceRecord] = field(default_factory=dict)  # of rollouts that go on
    prefetches: dict[str, PrefetchRecord] = field(default_factory=dict)
    registered_routers: dict[str, RouterRecord] = field(default_factory=dict)
    tenants: dict[str, TenantRecord] = field(default_factory=dict)
    keys: dict[str, KeyRecord] = field(default_factory=dict)
    revocations: dict[str, RevocationRecord] = field(default_factory=dict)  # by URI
    retired: dict[str, RetiredModel] = field(default_factory=dict)
    audit: dict[str, AuditRecord] = field(default_factory=dict)  # oldest first
    audit_head: dict[str, Head] = field(default_factory=dict)  # of the log, which is in the store
    receipts: dict[str, Receipt] = field(default_factory=dict)  # oldest first
    presences: dict[str, Presence] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    routers: dict[str, RouterPresence] = field(default_factory=dict)  # the connected ones
    unsettled: frozenset[str] = frozenset()  # models to be settled when the batch of events ends
    settle_at: datetime | None = None  # there is more or less room somewhere: look again then
    scales: dict[ScaleKey, Scale] = field(default_factory=dict)  # where replicas follow the load
    look_at: datetime | None = None  # when the load is looked at next
    idle: dict[str, datetime] = field(default_factory=dict)  # deployments nobody uses, since when
    wakes: dict[str, int] = field(default_factory=dict)  # how often a deployment was woken
    max_rollouts: int = 50  # that go on at the same time; others wait
    going: dict[str, tuple[str, ...]] = field(default_factory=dict)  # rollouts by model, not over
    rollout_due: dict[str, datetime] = field(default_factory=dict)  # when to look at each next
    rollout_sent: dict[str, int] = field(default_factory=dict)  # which snapshot routers must have
    desk: Desk = field(default_factory=Desk, compare=False)  # what is known of the canaries now
    saved: dict[str, datetime] = field(default_factory=dict)  # when that was stored last
    references: References = field(
        default_factory=References, compare=False
    )  # what is usual, by model and region
    zone: Callable[[str], tzinfo] = ZoneInfo  # a region's time zone, by name
    settled: Settled = field(default_factory=Settled, compare=False)
    published: tuple[int, int] = (0, 0)  # the newest snapshot, and the revision that it tells of
    started_at: datetime | None = None  # when this process began to decide
    ignored_reports: int = 0  # stale, or of a cluster that is unknown

    def __repr__(self) -> str:
        present = sum(presence.present for presence in self.presences.values())
        return (
            f"State(revision={self.revision}, clusters={len(self.clusters)} ({present} present), "
            f"models={len(self.models)}, deployments={len(self.deployments)}, "
            f"routers={len(self.routers)})"
        )

    def table(self, kind: str) -> dict[str, Any]:
        """Return the records of a stored kind, by name."""
        tables: dict[str, dict[str, Any]] = {
            "Region": self.regions,
            "Cluster": self.clusters,
            "Model": self.models,
            "Deployment": self.deployments,
            "Rollout": self.rollouts,
            "Evidence": self.evidence,
            "Prefetch": self.prefetches,
            "Router": self.registered_routers,
            "Tenant": self.tenants,
            "Key": self.keys,
            "Revocation": self.revocations,
            "RetiredModel": self.retired,
            "Event": self.audit,
            "AuditHead": self.audit_head,
            "Receipt": self.receipts,
        }
        return tables[kind]

    def copy(self) -> "State":
        """Return a State that can change without changing this one; records are shared."""
        other = copy.copy(self)
        for name in self.__slots__:
            if isinstance(value := getattr(self, name), dict):
                setattr(other, name, dict(value))
        analyses = {name: each.copy() for name, each in self.desk.analyses.items()}
        other.desk, other.references = Desk(analyses=analyses), References()
        other.settled = Settled()
        return other


def restore(records: Mapping[str, Mapping[str, object]], *, revision: int, blank: State) -> State:
    """Build a State from what the store remembers; `blank` holds its settings and no records."""
    state = blank.copy()
    state.revision = revision
    for kind, by_name in records.items():
        state.table(kind).update(by_name)
    for name, kept in state.evidence.items():
        state.desk.analyses[name] = Analysis.from_json(kept.analysis)
    state.going = going_by_model(state.rollouts)
    state.audit = dict(sorted(state.audit.items(), key=lambda item: item[1].id))
    state.receipts = dict(sorted(state.receipts.items(), key=lambda item: item[1].at))
    return state


class Step:
    """One event being decided: changes the state, and collects the commands that follow from it."""

    def __init__(self, state: State, now: datetime, actor: str) -> None:
        self.state = state
        self.now = now
        self.actor = actor
        self.commands: list[Command] = []

    def __repr__(self) -> str:
        return f"Step({self.actor}, {len(self.commands)} commands)"

    def emit(self, *commands: Command) -> None:
        """Ask the control loop for something."""
        self.commands.extend(commands)

    def _next_revision(self) -> int:
        self.state.revision += 1
        return self.state.revision

    def new_meta(self, name: str) -> Meta:
        """Return the identity of an object that is being created."""
        revision = self._next_revision()
        return Meta(name=name, generation=1, resource_version=revision, created_at=self.now)

    def next_meta(self, meta: Meta, *, spec_changed: bool = False) -> Meta:
        """Return the identity of an object that is being changed."""
        return Meta(
            name=meta.name,
            generation=meta.generation + spec_changed,
            resource_version=self._next_revision(),
            created_at=meta.created_at,
        )

    def put(
        self,
        kind: str,
        record: RegionRecord
        | ClusterRecord
        | RouterRecord
        | ModelRecord
        | DeploymentRecord
        | RolloutRecord
        | PrefetchRecord
        | TenantRecord
        | KeyRecord,
    ) -> None:
        """Remember an object whose meta was made by new_meta or next_meta."""
        meta = record.meta
        self.state.table(kind)[meta.name] = record
        self.emit(Put(kind=kind, name=meta.name, record=record, revision=meta.resource_version))

    def put_quietly(
        self,
        kind: str,
        name: str,
        record: RetiredModel | Receipt | RevocationRecord | Head | EvidenceRecord,
    ) -> None:
        """Remember something that watchers do not see."""
        self.state.table(kind)[name] = record
        self.emit(Put(kind=kind, name=name, record=record))

    def delete(self, kind: str, name: str) -> None:
        """Forget an object."""
        del self.state.table(kind)[name]
        self.emit(Delete(kind=kind, name=name, revision=self._next_revision()))

    def delete_quietly(self, kind: str, name: str) -> None:
        """Forget a record without telling watchers."""
        if self.state.table(kind).pop(name, None) is not None:
            self.emit(Delete(kind=kind, name=name))

    def touch(self, kind: str, name: str) -> None:
        """Tell watchers that the status of an object changed."""
        self.emit(Touch(kind=kind, name=name, revision=self._next_revision()))

    def publish(self) -> None:
        """Have the control loop look whether routers must know something new."""
        self.emit(PublishSnapshot())

    def wake_at(self, moment: datetime) -> None:
        """Ask for TimePassed at `moment`."""
        self.emit(WakeAt(at=moment))

    def audit(self, kind: str, name: str, reason: str, message: str) -> None:
        """Write down what happened, in a sentence; the oldest entries are forgotten."""
        audit = self.state.audit
        newest = next(reversed(audit.values())).id if audit else 0
        record = AuditRecord(
            id=newest + 1,
            at=self.now,
            actor=self.actor,
            kind=kind,
            name=name,
            reason=reason,
            message=message,
        )
        key = str(record.id)
        audit[key] = record
        self.emit(Put(kind="Event", name=key, record=record, revision=self._next_revision()))
        while len(audit) > AUDIT_LIMIT:
            self.delete_quietly("Event", next(iter(audit)))

    def remember(self, key: str, fingerprint: str, applied: Applied) -> None:
        """Keep the answer to an idempotency key; forget those that are old or too many."""
        receipts = self.state.receipts
        receipts.pop(key, None)  # so that it becomes the newest of the table
        receipt = Receipt(
            key=key,
            fingerprint=fingerprint,
            object_kind=applied.kind,
            object_name=applied.name,
            at=self.now,
            created=applied.created,
            version=applied.version,
            digest=applied.digest,
        )
        self.put_quietly("Receipt", key, receipt)
        while receipts and self._outdated(next(iter(receipts.values())), len(receipts)):
            self.delete_quietly("Receipt", next(iter(receipts)))

    def _outdated(self, oldest: Receipt, count: int) -> bool:
        return count > RECEIPT_LIMIT or oldest.at < self.now - RECEIPT_AGE
