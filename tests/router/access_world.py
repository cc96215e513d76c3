"""Tenants with keys, as a snapshot brings them to a router."""

import hmac
import random
from datetime import UTC, datetime

from federation.contract.access import Access, ApiKey, Tenant
from federation.contract.types import Snapshot
from federation.runtime.clock import SystemClock
from router.policy import table as tables
from router.state import RouterState

PEPPER = "5a" * 32
TENANTS = (
    Tenant(name="acme"),
    Tenant(name="euro", residency=("eu",)),
    Tenant(name="small", models=("digit*",), requests_per_minute=1),
    Tenant(name="picky", models=("digit*",)),
    Tenant(name="tokens", tokens_per_minute=60),
    Tenant(name="single", max_concurrent=1),
)


def key_text(id: str) -> str:
    """The whole text of a key."""
    return f"fed_key_{id}_" + (f"{id}_-" * 43)[:43]


def digest(text: str, pepper: str = PEPPER) -> str:
    return hmac.digest(bytes.fromhex(pepper), text.encode(), "sha256").hex()


def api_key(id: str, tenant: str, expires_at: datetime | None = None) -> ApiKey:
    return ApiKey(id=id, tenant=tenant, digest=digest(key_text(id)), expires_at=expires_at)


KEYS = {tenant.name: key_text(f"k-{tenant.name}") for tenant in TENANTS}
OLD_KEY = key_text("k-old")


def access(*more: ApiKey) -> Access:
    """One key for each tenant, and one that has expired."""
    keys = [api_key(f"k-{tenant.name}", tenant.name) for tenant in TENANTS]
    old = api_key("k-old", "acme", datetime(2026, 1, 1, tzinfo=UTC))
    return Access(pepper=PEPPER, tenants=TENANTS, keys=(*keys, old, *more))


def bearer(tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[tenant]}"}


def state_with(allowed: Access, *, anonymous: bool = False) -> RouterState:
    """A router that has a table with nothing but keys in it."""
    state = RouterState(
        name="test", clock=SystemClock(), dice=random.Random(1), allow_anonymous=anonymous
    )
    state.swap(tables.build(Snapshot(version=1, access=allowed)))
    return state
