"""What is shown of a key: everything but its digest.

Input: a State. Output: the status of a key's document, JSON-ready.
"""

from datetime import datetime

from federation.policy.access.records import KeyRecord
from federation.policy.plain import Json, plain


def key_status(record: KeyRecord, now: datetime) -> Json:
    """Return the status of a key."""
    expired = record.expires_at is not None and record.expires_at <= now
    return {
        "kind": record.kind.value,
        "tenant": record.tenant,
        "grants": plain(record.grants),
        "created_by": record.created_by,
        "expires_at": plain(record.expires_at),
        "expired": expired,
    }
