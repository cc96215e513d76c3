"""What the audit log holds: entries that are chained by their hashes, and the head of the chain.

Input: made by `trail` and `chain`. Output: stored once and never changed; read page by page. Only
the head is part of the State.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class AuditOutcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"  # what was asked for happened; it stands in the store with the entry
    DENIED = "denied"  # somebody was turned away; nothing changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest entry of the log: its number and its hash (hex). Number 0 = none yet."""

    id: int
    hash: str


START = Head(id=0, hash="0" * 64)
HEAD_NAME = "head"  # the name of the one record of kind "AuditHead"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change or denial. `id`, `previous` and `hash` are given by `chain.append`.

    `actor` is who did it ("user/ada", "cluster/eu-west", "anonymous"), `source` the address that it
    came from, `action` the type of the event. `count` is above 1 where equal denials are told in
    one entry.
    """

    at: datetime
    actor: str
    source: str
    action: str
    kind: str
    name: str
    outcome: AuditOutcome
    reason: str
    message: str
    request_id: str = ""
    count: int = 1
    id: int = 0
    previous: str = ""
    hash: str = ""
