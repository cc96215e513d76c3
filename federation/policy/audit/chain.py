"""The chain of hashes that makes every later change of the audit log visible. Pure.

Input: entries, one after the other. Output: numbered and hashed entries; and for those who check,
the first entry that does not fit.

An entry's hash is SHA-256, in hex, of its canonical form: the entry as JSON without the key `hash`,
keys sorted, no spaces between, UTF-8. `previous` is the hash of the entry before it (64 zeros for
the first), so each hash vouches for all entries up to its own. Texts hold printable characters
only: then every JSON writer that sorts keys makes the same bytes, `jq -cS 'del(.hash)'` among them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from federation.policy.audit.records import START, AuditEntry, Head

MAX_TEXT = 1024  # characters of any one text of an entry
_TEXTS = ("actor", "source", "action", "kind", "name", "reason", "message", "request_id")

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The first place where a log is not what was written: the entry's number, and why."""

    id: int
    why: str


def append(head: Head, entry: AuditEntry) -> tuple[Head, AuditEntry]:
    """Return the entry as the next one after `head`, and the new head."""
    texts: dict[str, Any] = {name: _printable(getattr(entry, name)) for name in _TEXTS}
    numbered = replace(entry, **texts, id=head.id + 1, previous=head.hash, hash="")
    hashed = replace(numbered, hash=digest(document(numbered)))
    return Head(id=hashed.id, hash=hashed.hash), hashed


def document(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry as JSON-ready values; times in UTC with six decimals."""
    return asdict(entry) | {"at": moment(entry.at), "outcome": entry.outcome.value}


def moment(at: datetime) -> str:
    """Return a time as entries have it: "2026-01-01T00:00:00.000000Z"."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def line(found: Document) -> str:
    """Return a document in canonical form, with its hash if it has one."""
    return json.dumps(found, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def parse(text: str) -> Document:
    """Return the document in one line of a log; an empty one, which fits nowhere, if it is none.

    A key that is there twice would be read differently by different readers: that is no entry.
    """
    try:
        found = json.loads(text, object_pairs_hook=_without_twins)
        line(found).encode()  # raises for half a surrogate pair
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def digest(found: Document) -> str:
    """Return the hash that an entry with this content must have."""
    content = {key: value for key, value in found.items() if key != "hash"}
    return hashlib.sha256(line(content).encode(errors="surrogatepass")).hexdigest()


def verify(documents: Iterable[Document], after: Head = START) -> Head | Broken:
    """Return the head after these entries if they follow `after` without a gap or a change."""
    head = after
    for found in documents:
        if why := _flaw(found, head):
            return Broken(id=head.id + 1, why=why)
        head = Head(id=head.id + 1, hash=found["hash"])
    return head


def _flaw(found: Document, head: Head) -> str:
    """Say why `found` is not the entry after `head`; "" if it is."""
    id = found.get("id")
    if type(id) is not int or id != head.id + 1:
        told = f"number {id}" if type(id) is int else "something that is no entry"
        return f"it is missing: after number {head.id} comes {told}"
    if found.get("previous") != head.hash:
        return "it does not follow from the entry before it: one of the two was replaced"
    if found.get("hash") != digest(found):
        return "its content is not what was written: the hash does not fit"
    return ""


def _printable(text: str) -> str:
    """Return `text` bounded, with every character that is not printable replaced by '?'."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_TEXT])
