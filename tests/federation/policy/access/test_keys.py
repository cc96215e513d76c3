from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.access import Grant, Role
from federation.contract.errors import AlreadyExists, Conflict, FederationError, Invalid, NotFound
from federation.contract.resources import TenantSpec
from federation.policy.access.events import KeyCreated
from federation.policy.access.keys import check_grant, words
from federation.policy.access.records import KeyKind, TenantRecord
from federation.policy.events import ObjectRemoved, PublishSnapshot, Put
from federation.policy.meta import Meta
from tests.federation.policy.world import START, World

VIEWER = Grant(role=Role.VIEWER)
USER = KeyCreated(actor="admin/local", id="alice", kind=KeyKind.USER, digest="d1", grants=(VIEWER,))
INFERENCE = KeyCreated(
    actor="admin/local", id="prod", kind=KeyKind.INFERENCE, digest="d2", tenant="acme"
)


@pytest.fixture
def world() -> World:
    world = World()
    world.region("eu")
    meta = Meta(name="acme", generation=1, resource_version=1, created_at=START)
    world.state.tenants["acme"] = TenantRecord(meta=meta, spec=TenantSpec())
    return world


def published(world: World) -> bool:
    found = any(isinstance(command, PublishSnapshot) for command in world.commands)
    world.commands.clear()
    return found


def test_a_key_is_made_rotated_and_revoked(world: World) -> None:
    assert world.applied(USER).created
    made = world.state.keys["alice"]
    assert (made.digest, made.grants, made.created_by) == ("d1", (VIEWER,), "admin/local")
    world.advance(5)
    rotated = KeyCreated(
        actor="admin/local", id="alice", kind=KeyKind.USER, digest="d9", rotate=True
    )
    assert not world.applied(rotated).created
    now = world.state.keys["alice"]
    assert now == replace(made, digest="d9", meta=now.meta)
    assert now.meta.created_at == made.meta.created_at
    world.remove("Key", "alice")
    assert "alice" not in world.state.keys
    assert world.told()[-3:] == ["KeyCreated", "KeyRotated", "KeyRevoked"]
    with pytest.raises(NotFound):
        world.do(rotated)


def test_routers_hear_of_inference_keys_only(world: World) -> None:
    published(world)
    world.do(USER)
    world.remove("Key", "alice")
    assert not published(world)
    world.do(INFERENCE)
    assert published(world)
    world.do(replace(INFERENCE, digest="d3", tenant="", rotate=True))
    assert published(world)
    assert world.state.keys["prod"].tenant == "acme"
    world.remove("Key", "prod")
    assert published(world)


def test_no_digest_is_ever_told(world: World) -> None:
    secret = replace(INFERENCE, digest="feedfacefeedface")
    world.do(secret)
    for command in world.commands:
        if not (isinstance(command, Put) and command.kind == "Key"):
            assert secret.digest not in repr(command)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (replace(USER, id="Not a name"), Invalid),
        (replace(USER, grants=()), Invalid),
        (replace(USER, tenant="acme"), Invalid),
        (replace(USER, expires_at=START), Invalid),
        (replace(USER, expires_at=START - timedelta(seconds=1)), Invalid),
        (replace(USER, grants=(Grant(role=Role.OPERATOR, regions=("mars",)),)), Invalid),
        (replace(USER, grants=(VIEWER, Grant(role=Role.ADMIN, regions=("eu",)))), Invalid),
        (replace(INFERENCE, tenant=""), Invalid),
        (replace(INFERENCE, tenant="nobody"), NotFound),
        (replace(INFERENCE, grants=(VIEWER,)), Invalid),
        (replace(USER, rotate=True), NotFound),
    ],
)
def test_keys_that_open_nothing_or_too_much_are_refused(
    world: World, event: KeyCreated, error: type[FederationError]
) -> None:
    with pytest.raises(error):
        world.do(event)
    assert world.state.keys == {}


def test_an_id_is_given_once(world: World) -> None:
    world.do(USER)
    with pytest.raises(AlreadyExists) as refused:
        world.do(replace(USER, digest="other"))
    assert "fed key rotate alice" in refused.value.hint
    world.remove("Key", "alice")
    world.do(replace(USER, digest="other"))


def test_a_rotation_can_move_the_expiry_and_must_if_it_has_passed(world: World) -> None:
    world.do(replace(USER, expires_at=START + timedelta(days=1)))
    rotate = replace(USER, rotate=True, digest="d2", grants=())
    world.advance(86_401)
    with pytest.raises(Invalid, match="expired"):
        world.do(rotate)
    later = world.now + timedelta(days=1)
    world.do(replace(rotate, expires_at=later))
    assert world.state.keys["alice"].expires_at == later


def test_a_rotation_to_the_same_text_is_none(world: World) -> None:
    world.do(USER)
    with pytest.raises(Invalid) as refused:
        world.do(replace(USER, rotate=True))
    assert refused.value.reason == "idempotency-key-reused"


def test_a_stale_revocation_is_refused(world: World) -> None:
    world.do(USER)
    held = world.state.keys["alice"].meta.resource_version
    with pytest.raises(Conflict):
        world.do(ObjectRemoved(actor="a", kind="Key", name="alice", expected=held - 1))
    world.do(ObjectRemoved(actor="a", kind="Key", name="alice", expected=held))


@pytest.mark.parametrize(
    "grant",
    [
        Grant(role=Role.VIEWER, models=("x",)),
        Grant(role=Role.OPERATOR, models=("x",)),
        Grant(role=Role.MODEL_OWNER, regions=("eu",)),
        Grant(role=Role.ADMIN, models=("x",)),
        Grant(role=Role.MODEL_OWNER, models=("[a-z]*",)),
        Grant(role=Role.MODEL_OWNER, models=("",)),
        Grant(role=Role.OPERATOR, regions=("EU",)),
    ],
)
def test_limits_that_a_role_does_not_know_are_refused(grant: Grant) -> None:
    with pytest.raises(Invalid):
        check_grant(grant)


def test_grants_read_well() -> None:
    assert words(VIEWER) == "viewer"
    assert words(Grant(role=Role.OPERATOR, regions=("eu", "us"))) == "operator of eu, us"


@given(st.lists(st.sampled_from(["make", "rotate", "revoke"]), max_size=12))
def test_at_most_one_digest_is_valid_whatever_happens(steps: list[str]) -> None:
    world = World()
    held = ""
    for number, step in enumerate(steps):
        digest = f"d{number}"
        try:
            if step == "revoke":
                world.remove("Key", "alice")
                held = ""
            else:
                world.do(replace(USER, digest=digest, rotate=step == "rotate"))
                held = digest
        except FederationError:
            pass
        kept = world.state.keys.get("alice")
        assert (kept.digest if kept else "") == held
