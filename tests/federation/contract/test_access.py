import dataclasses

import pytest

from federation.contract.access import Access, ApiKey, Grant, Role, Tenant


def test_by_default_nobody_has_access_and_a_tenant_has_no_limits() -> None:
    assert Access() == Access(pepper="", tenants=(), keys=())
    tenant = Tenant(name="acme")
    assert (tenant.models, tenant.residency) == ((), ())
    limits = (tenant.requests_per_minute, tenant.tokens_per_minute, tenant.max_concurrent)
    assert limits == (0, 0, 0)


def test_a_grant_without_limits_holds_everywhere() -> None:
    grant = Grant(role=Role.OPERATOR)
    assert (grant.models, grant.regions) == ((), ())


def test_values_cannot_be_changed() -> None:
    key = ApiKey(id="k", tenant="acme", digest="00")
    with pytest.raises(dataclasses.FrozenInstanceError):
        key.tenant = "other"  # type: ignore[misc]
