"""What is remembered of tenants and keys.

Input: made by the deciders of this package. Output: kept in State, stored as JSON; never a secret.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from federation.contract.access import Grant
from federation.contract.resources import TenantSpec
from federation.policy.meta import Meta


class KeyKind(StrEnum):
    """What a key opens."""

    USER = "user"  # the operator API, within its grants
    INFERENCE = "key"  # the routers, within its tenant's limits


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRecord:
    """A tenant."""

    meta: Meta
    spec: TenantSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A key; `meta.name` is its id. `digest` is hex HMAC-SHA256(pepper, the whole key text)."""

    meta: Meta
    kind: KeyKind
    digest: str
    created_by: str
    tenant: str = ""  # of an INFERENCE key
    grants: tuple[Grant, ...] = ()  # of a USER key
    expires_at: datetime | None = None
