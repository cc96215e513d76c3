from datetime import timedelta

from federation.contract.access import Grant, Role
from federation.policy import views
from federation.policy.access.events import KeyCreated
from federation.policy.access.key_view import key_status
from federation.policy.access.records import KeyKind
from tests.federation.policy.world import START, World


def test_a_key_is_shown_without_its_digest() -> None:
    world = World()
    world.region("eu")
    expires = START + timedelta(seconds=5)
    grant = Grant(role=Role.OPERATOR, regions=("eu",))
    world.do(
        KeyCreated(
            actor="admin/local",
            id="alice",
            kind=KeyKind.USER,
            digest="feedface",
            grants=(grant,),
            expires_at=expires,
        )
    )
    record = world.state.keys["alice"]
    assert key_status(record, START) == {
        "kind": "user",
        "tenant": "",
        "grants": [{"role": "operator", "models": [], "regions": ["eu"]}],
        "created_by": "admin/local",
        "expires_at": "2026-01-01T00:00:05.000Z",
        "expired": False,
    }
    assert key_status(record, expires)["expired"] is True
    shown = views.document(world.state, "Key", "alice", START)
    assert (shown["kind"], shown["metadata"]["name"], shown["spec"]) == ("Key", "alice", {})
    assert "feedface" not in repr(shown)
