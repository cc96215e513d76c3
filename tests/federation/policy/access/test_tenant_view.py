from federation.policy import views
from tests.federation.policy.access.test_tenants import key, tenant
from tests.federation.policy.world import World


def test_a_tenant_says_why_it_cannot_be_served() -> None:
    world = World()
    tenant(world, models=("llama-*",), requests_per_minute=60)

    def status() -> dict[str, object]:
        document = views.document(world.state, "Tenant", "acme", world.now)
        assert document["spec"]["models"] == ["llama-*"]
        found: dict[str, object] = document["status"]
        return found

    assert status() == {
        "keys": [],
        "ready": False,
        "reason": "it has no key yet; make one with: fed key create NAME --tenant acme",
    }
    key(world, "k1", seconds=10)
    assert status() == {"keys": ["k1"], "ready": True, "reason": ""}
    world.advance(10)
    assert str(status()["reason"]).startswith("all its keys have expired")
    key(world, "k2")
    assert status() == {"keys": ["k1", "k2"], "ready": True, "reason": ""}
