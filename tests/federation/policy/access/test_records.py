from datetime import UTC, datetime

from federation.contract.access import Grant, Role
from federation.contract.resources import TenantSpec
from federation.policy.access.records import KeyKind, KeyRecord, TenantRecord
from federation.policy.meta import Meta
from federation.store.records import decode, encode

_META = Meta(
    name="x", generation=1, resource_version=7, created_at=datetime(2026, 5, 1, tzinfo=UTC)
)


def test_keys_and_tenants_come_back_from_the_store_as_they_went() -> None:
    key = KeyRecord(
        meta=_META,
        kind=KeyKind.USER,
        digest="00",
        created_by="admin/local",
        grants=(Grant(role=Role.OPERATOR, regions=("eu",)),),
        expires_at=datetime(2027, 5, 1, tzinfo=UTC),
    )
    tenant = TenantRecord(meta=_META, spec=TenantSpec(models=("a*",), requests_per_minute=5))
    assert decode("Key", encode(key)) == key
    assert decode("Tenant", encode(tenant)) == tenant
