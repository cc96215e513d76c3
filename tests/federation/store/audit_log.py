"""Entries for the tests of stores: a writer that goes on where the log ends, and a reader."""

from datetime import UTC, datetime

from federation.policy.audit import chain
from federation.policy.audit.events import AppendAudit
from federation.policy.audit.records import HEAD_NAME, AuditEntry, AuditOutcome, Head
from federation.policy.events import Put
from federation.policy.records import RetiredModel
from federation.store.base import AuditQuery, Store, Write

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Writer:
    """Commits changes as the control loop does: records, entries and the new head together."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.head = store.audit_head()

    def batch(self, count: int = 1, *, actor: str = "user/ada", kind: str = "Model") -> list[Write]:
        """Return the writes for the next `count` changes."""
        writes: list[Write] = []
        for _ in range(count):
            name = f"m{self.head.id + 1}"
            entry = AuditEntry(
                at=AT.replace(year=2000 + (self.head.id + 1) % 1000),
                actor=actor,
                source="192.0.2.1",
                action="ObjectRemoved",
                kind=kind,
                name=name,
                outcome=AuditOutcome.DONE,
                reason="ModelDeleted",
                message=f"model {name!r} was deleted.",
            )
            self.head, appended = chain.append(self.head, entry)
            record = RetiredModel(name=name, last_version=1)
            writes += [
                Put(kind="RetiredModel", name=name, record=record),
                Put(kind="AuditHead", name=HEAD_NAME, record=self.head),
                AppendAudit(entry=appended),
            ]
        return writes

    def commit(self, count: int = 1, *, actor: str = "user/ada", kind: str = "Model") -> range:
        """Commit the next `count` changes; returns the numbers of their entries."""
        first = self.head.id + 1
        writes = self.batch(count, actor=actor, kind=kind)
        self.store.commit(writes, self.head.id)
        return range(first, self.head.id + 1)


def ids(store: Store, query: AuditQuery = AuditQuery()) -> list[int]:  # noqa: B008 - frozen
    """Return the numbers of the lines that a query finds."""
    return [line.id for line in store.read_audit(query)]


def verdict(store: Store) -> Head | chain.Broken:
    """Verify the whole log of a store, page by page."""
    head: Head | chain.Broken = Head(id=0, hash="0" * 64)
    after = 0
    while isinstance(head, Head) and (page := store.read_audit(AuditQuery(after=after, limit=7))):
        head = chain.verify([chain.parse(line.json) for line in page], head)
        after = page[-1].id
    return head


def entries_of(batch: list[Write]) -> list[chain.Document]:
    """Return the entries that a batch adds, as documents."""
    return [chain.document(c.entry) for c in batch if isinstance(c, AppendAudit)]
