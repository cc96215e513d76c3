"""What the control loop asks of a store: load everything once, then commit batches atomically.

Input: Put, Delete and AppendAudit commands. Output: the records after a restart, and the audit log
page by page. Every implementation passes tests/contract/test_store.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from federation.policy.audit.chain import document, line
from federation.policy.audit.events import AppendAudit
from federation.policy.audit.records import Head
from federation.policy.events import Delete, Put

Write = Put | Delete | AppendAudit


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """All that a store remembers.

    `records` by kind and name. `revision` is that of the last commit. `starts` counts how often
    this store was loaded, this time included: it makes snapshot versions grow across restarts.
    """

    records: Mapping[str, Mapping[str, object]]
    revision: int
    starts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One line of the audit log as it is stored: JSON. `id` tells where it stands; what it says of
    itself may differ if somebody changed it, and is for those who verify the log."""

    id: int
    json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which lines of the audit log: those after `after`, at most `limit`.

    Empty texts ask for all. `since` is a time as entries have it: "2026-01-01T00:00:00.000000Z".
    """

    after: int = 0
    limit: int = 1_000
    actor: str = ""
    kind: str = ""
    since: str = ""


class Store(Protocol):
    """Used by one control loop at a time, from one thread at a time; the two methods that read the
    audit log may be called from any thread."""

    def load(self) -> Loaded:
        """Count a start and return everything; raises Invalid if the data cannot be read."""
        ...

    def commit(self, batch: Sequence[Write], revision: int) -> None:
        """Apply all of the batch, in order, and remember the revision; or nothing at all."""
        ...

    def read_audit(self, query: AuditQuery) -> list[AuditLine]:
        """Return lines of the audit log, oldest first."""
        ...

    def audit_head(self) -> Head:
        """Return the head of the log as it was last committed; START if there is no entry."""
        ...

    def close(self) -> None:
        """Release the store; it cannot be used afterwards."""
        ...


def by_kind(records: Iterable[tuple[str, str, object]]) -> dict[str, dict[str, object]]:
    """Group (kind, name, record) by kind and name."""
    grouped: dict[str, dict[str, object]] = {}
    for kind, name, record in records:
        grouped.setdefault(kind, {})[name] = record
    return grouped


def last_writes(batch: Sequence[Write]) -> dict[tuple[str, str], Put | Delete]:
    """Return what is left to do for each object when earlier writes of it are skipped."""
    return {(c.kind, c.name): c for c in batch if not isinstance(c, AppendAudit)}


def audit_lines(batch: Sequence[Write]) -> list[AuditLine]:
    """Return the lines that a batch adds to the audit log, in order."""
    entries = [command.entry for command in batch if isinstance(command, AppendAudit)]
    return [AuditLine(id=entry.id, json=line(document(entry))) for entry in entries]
