"""The audit log's own events and command, and where a submitted event came from.

Input: built by `federation.api` and the control loop. Output: `decide` takes the event and returns
the command, which the store performs in the transaction of the change that the entry tells of.
"""

from dataclasses import dataclass

from federation.policy.audit.records import AuditEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an event came from: the caller's address, and the id that its answer carries."""

    source: str = ""
    request_id: str = ""


INSIDE = Origin()  # the control plane itself


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDenied:
    """Somebody was turned away, `count` times in the same way; nothing else changed.

    `target` is what was called ("POST /api/v1/join"); the rest is of the first time.
    """

    actor: str
    target: str
    reason: str
    message: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCollected:
    """Garbage was removed from the store of packages: objects by kind, and bytes on disk. Nothing
    that the State tells of changed."""

    actor: str
    freed_bytes: int
    packs: int
    documents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionVerified:
    """Every byte of a version in the store was read, and so many things were found damaged."""

    actor: str
    model: str
    version: int
    damaged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendAudit:
    """Write an entry to the end of the audit log. It is never changed afterwards."""

    entry: AuditEntry
