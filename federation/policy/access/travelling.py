"""What routers hear of tenants and keys: enough to check a key without a call to anybody.

Input: a State. Output: the Access of a routing snapshot. Keys of people never travel, nor do keys
that have expired; of the rest, the moment of expiry travels with them and the router checks it, so
that a key ends in time even while the control plane is away.
"""

from datetime import datetime

from federation.contract.access import Access, ApiKey, Tenant
from federation.policy.access.records import KeyKind, KeyRecord
from federation.policy.state import State


def access_of(state: State, now: datetime | None = None) -> Access:
    """Return all tenants and the inference keys that have not expired at `now` (None: all keys).

    Both are ordered by name: two equal states give equal values.
    """
    tenants = tuple(
        Tenant(
            name=name,
            models=record.spec.models,
            residency=tuple(sorted(record.spec.residency)),
            requests_per_minute=record.spec.requests_per_minute,
            tokens_per_minute=record.spec.tokens_per_minute,
            max_concurrent=record.spec.max_concurrent,
        )
        for name, record in sorted(state.tenants.items())
    )
    keys = tuple(
        ApiKey(id=id, tenant=key.tenant, digest=key.digest, expires_at=key.expires_at)
        for id, key in sorted(state.keys.items())
        if _travels(state, key, now)
    )
    return Access(pepper=state.pepper if keys else "", tenants=tenants, keys=keys)


def _travels(state: State, key: KeyRecord, now: datetime | None) -> bool:
    valid = now is None or key.expires_at is None or key.expires_at > now
    return key.kind is KeyKind.INFERENCE and valid and key.tenant in state.tenants
