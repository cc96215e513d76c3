from datetime import UTC, datetime
from typing import Any

import msgspec

from federation.api.documents import DOCUMENTS
from federation.contract.resources import TenantSpec
from federation.policy import views
from federation.policy.access.events import TenantApplied
from federation.policy.decide import decide
from federation.policy.state import State
from tests.fakes.control_plane import Operator

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_what_is_shown_of_a_tenant_has_the_shape_that_is_told() -> None:
    state = State()
    decide(state, TenantApplied(actor="ada", name="acme", spec=TenantSpec(models=("a*",))), NOW)
    shown = views.document(state, "Tenant", "acme", NOW)
    read: Any = msgspec.convert(shown, DOCUMENTS["Tenant"])
    assert (read.spec.models, read.status.ready) == (("a*",), False)
    assert msgspec.json.decode(msgspec.json.encode(read.status)) == shown["status"]


async def test_a_tenant_lives_and_dies_over_the_api(api: Operator) -> None:
    spec = {"models": ["llama-*"], "requests_per_minute": 60}
    created = await api.put("Tenant", "acme", spec)
    assert (created.status, created.json["spec"]["max_concurrent"]) == (201, 0)
    assert (await api.put("Tenant", "acme", spec)).status == 200
    for wrong in ({"residency": ["nowhere"]}, {"max_concurrent": -1}, {"max_concurrent": "many"}):
        refused = await api.put("Tenant", "acme", wrong)
        assert (refused.status, refused.json["title"]) == (400, "Bad Request")
    listed = await api.call("GET", "/api/v1/tenants")
    assert [item["metadata"]["name"] for item in listed.json["items"]] == ["acme"]
    assert (await api.call("DELETE", "/api/v1/tenants/acme")).status == 200
    assert (await api.call("GET", "/api/v1/tenants/acme")).status == 404
