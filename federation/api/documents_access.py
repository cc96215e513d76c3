"""The shapes of what is shown of tenants and keys, as the OpenAPI document tells them.

Input: none. Output: types whose schemas describe what `policy.access.tenant_view` and `key_view`
return; `documents` puts them into the documents of their kinds.
"""

from dataclasses import dataclass
from datetime import datetime

from federation.contract.access import Grant
from federation.policy.access.records import KeyKind


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantStatus:
    """The ids of a tenant's keys, and in words why its requests cannot be served."""

    keys: tuple[str, ...]
    ready: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStatus:
    """What a key opens, until when, and who made it. Its text is shown nowhere."""

    kind: KeyKind
    tenant: str
    grants: tuple[Grant, ...]
    created_by: str
    expires_at: datetime | None
    expired: bool
