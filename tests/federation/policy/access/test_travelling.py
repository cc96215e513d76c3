from dataclasses import replace

import pytest

from federation.contract import codec
from federation.contract.access import Grant, Role, Tenant
from federation.policy import snapshot
from federation.policy.access.events import KeyCreated
from federation.policy.access.records import KeyKind
from federation.policy.access.travelling import access_of
from tests.federation.policy.access.test_tenants import key, tenant
from tests.federation.policy.world import ACTOR, World

PEPPER = "5a" * 32


@pytest.fixture
def world() -> World:
    world = World()
    world.state.pepper = PEPPER
    world.region("us")
    world.region("eu")
    tenant(world, "b", residency=("us", "eu"), tokens_per_minute=7)
    tenant(world, "a", models=("x*",))
    return world


def test_tenants_and_keys_travel_in_order(world: World) -> None:
    for id, name in (("k2", "a"), ("k1", "b")):
        key(world, id, name)
    access = access_of(world.state, world.now)
    assert access.pepper == PEPPER
    assert access.tenants == (
        Tenant(name="a", models=("x*",)),
        Tenant(name="b", residency=("eu", "us"), tokens_per_minute=7),
    )
    assert [(k.id, k.tenant, k.digest) for k in access.keys] == [
        ("k1", "b", f"{1:064x}"),
        ("k2", "a", f"{0:064x}"),
    ]


def test_keys_of_people_stay_at_home(world: World) -> None:
    grants = (Grant(role=Role.ADMIN),)
    world.do(KeyCreated(actor=ACTOR, id="ada", kind=KeyKind.USER, digest="f" * 64, grants=grants))
    access = access_of(world.state)
    assert access.keys == ()
    assert access.pepper == ""  # it proves nothing where there are no keys


def test_a_key_that_has_ended_travels_no_more(world: World) -> None:
    key(world, "short", "a", seconds=10)
    key(world, "long", "a")
    before = access_of(world.state, world.now)
    assert [k.id for k in before.keys] == ["long", "short"]
    assert before.keys[1].expires_at is not None
    world.advance(10)
    assert [k.id for k in access_of(world.state, world.now).keys] == ["long"]
    assert [k.id for k in access_of(world.state).keys] == ["long", "short"]


def test_a_snapshot_has_it_and_changes_with_it(world: World) -> None:
    one = snapshot.build(world.state, 1, world.now)
    key(world, "k", "a")
    two = snapshot.build(world.state, 2, world.now)
    assert not snapshot.same_content(one, two)
    assert two.access == access_of(world.state, world.now)
    assert codec.snapshot_from_proto(codec.snapshot_to_proto(two)) == two
    world.remove("Key", "k")
    assert snapshot.build(world.state, 3, world.now) == replace(one, version=3)
    assert PEPPER not in repr(two)
