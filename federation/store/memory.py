"""A store that forgets everything when the process ends: for trying things out, and for tests.

Input: Put, Delete and AppendAudit commands. Output: the same records and the same log again, in the
same process. Records are kept as bytes, so that what could not be stored on disk cannot be stored
here either.
"""

from collections.abc import Sequence

from federation.policy.audit.chain import parse
from federation.policy.audit.records import HEAD_NAME, START, Head
from federation.policy.events import Put
from federation.store.base import (
    AuditLine,
    AuditQuery,
    Loaded,
    Write,
    audit_lines,
    by_kind,
    last_writes,
)
from federation.store.records import decode, encode


class MemoryStore:
    """Keeps records in a dict."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], bytes] = {}
        self._audit: list[AuditLine] = []
        self._revision = 0
        self._starts = 0

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._records)} records, revision={self._revision})"

    def load(self) -> Loaded:
        """Count a start and return everything."""
        self._starts += 1
        records = by_kind((k, n, decode(k, data)) for (k, n), data in self._records.items())
        return Loaded(records=records, revision=self._revision, starts=self._starts)

    def commit(self, batch: Sequence[Write], revision: int) -> None:
        """Apply all of the batch and remember the revision; or nothing, if a record is unfit."""
        records = dict(self._records)
        for key, command in last_writes(batch).items():
            if isinstance(command, Put):
                records[key] = encode(command.record)
            else:
                records.pop(key, None)
        lines = audit_lines(batch)
        if any(line.id <= len(self._audit) for line in lines):
            raise ValueError("an entry of the audit log is never replaced")
        self._records, self._revision = records, revision
        self._audit.extend(lines)

    def read_audit(self, query: AuditQuery) -> list[AuditLine]:
        """Return lines of the audit log, oldest first."""
        after = [line for line in self._audit[:] if line.id > query.after]
        return [line for line in after if _asked_for(line, query)][: query.limit]

    def audit_head(self) -> Head:
        """Return the head of the log as it was last committed."""
        data = self._records.get(("AuditHead", HEAD_NAME))
        head = decode("AuditHead", data) if data else START
        if not isinstance(head, Head):
            raise TypeError(head)
        return head

    def close(self) -> None:
        """Do nothing: the records end with the object."""


def _asked_for(line: AuditLine, query: AuditQuery) -> bool:
    found = parse(line.json)
    return (
        query.actor in ("", found.get("actor"))
        and query.kind in ("", found.get("kind"))
        and query.since <= found.get("at", "")
    )
