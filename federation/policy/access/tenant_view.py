"""What is shown of a tenant: its keys, and why its requests cannot be served.

Input: a State. Output: the status of a tenant's document, JSON-ready.
"""

from datetime import datetime

from federation.policy.access.records import TenantRecord
from federation.policy.access.tenants import keys_of
from federation.policy.plain import Json
from federation.policy.state import State


def tenant_status(state: State, record: TenantRecord, now: datetime) -> Json:
    """Return the status of a tenant."""
    name = record.meta.name
    keys = keys_of(state, name)
    valid = [k for k in keys if (end := state.keys[k].expires_at) is None or end > now]
    reason = ""
    if not valid:
        what = "all its keys have expired" if keys else "it has no key yet"
        reason = f"{what}; make one with: fed key create NAME --tenant {name}"
    return {"keys": keys, "ready": bool(valid), "reason": reason}
