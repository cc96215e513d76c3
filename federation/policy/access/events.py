"""What can happen to tenants and keys. Past tense.

Input: built by `federation.api`. Output: `decide` takes one event and returns commands.
"""

from dataclasses import dataclass
from datetime import datetime

from federation.contract.access import Grant
from federation.contract.resources import TenantSpec
from federation.policy.access.records import KeyKind


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantApplied:
    """A tenant was created or changed. (It is deleted by ObjectRemoved, kind "Tenant".)"""

    actor: str
    name: str
    spec: TenantSpec
    expected: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCreated:
    """A key was made: `digest` is kept, its text is shown once. `rotate` replaces the digest of
    the key of that id, which keeps everything else. (ObjectRemoved, kind "Key", revokes it.)"""

    actor: str
    id: str
    kind: KeyKind
    digest: str
    tenant: str = ""
    grants: tuple[Grant, ...] = ()
    expires_at: datetime | None = None
    rotate: bool = False
