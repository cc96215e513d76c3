from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import AlreadyExists, Conflict, Invalid, NotFound
from federation.contract.resources import TenantSpec
from federation.policy.access.events import KeyCreated, TenantApplied
from federation.policy.access.records import KeyKind
from federation.policy.access.tenants import keys_of, residing, words
from federation.policy.events import Applied, PublishSnapshot
from tests.federation.policy.world import ACTOR, World


def tenant(world: World, name: str = "acme", expected: int | None = None, **spec: Any) -> Applied:
    wanted = TenantSpec(**spec)
    return world.applied(TenantApplied(actor=ACTOR, name=name, spec=wanted, expected=expected))


def key(world: World, id: str, tenant: str = "acme", seconds: float | None = None) -> None:
    ends = None if seconds is None else world.now + timedelta(seconds=seconds)
    event = KeyCreated(
        actor=ACTOR,
        id=id,
        kind=KeyKind.INFERENCE,
        digest=f"{len(world.state.keys):064x}",
        tenant=tenant,
        expires_at=ends,
    )
    world.do(event)


@pytest.fixture
def world() -> World:
    world = World()
    world.region("eu")
    return world


def test_a_tenant_is_created_changed_and_left_alone(world: World) -> None:
    assert tenant(world).created
    assert not tenant(world, models=("llama-*",), requests_per_minute=60).created
    commands = len(world.commands)
    tenant(world, models=("llama-*",), requests_per_minute=60)
    assert len(world.commands) == commands
    record = world.state.tenants["acme"]
    assert (record.meta.generation, record.spec.models) == (2, ("llama-*",))
    assert world.told()[-2:] == ["TenantCreated", "TenantChanged"]
    assert sum(isinstance(c, PublishSnapshot) for c in world.commands[-3:]) == 1


def test_a_stale_change_is_refused(world: World) -> None:
    tenant(world)
    read = world.state.tenants["acme"].meta.resource_version
    tenant(world, max_concurrent=1)
    with pytest.raises(Conflict, match="changed since you read it"):
        tenant(world, expected=read, max_concurrent=2)
    with pytest.raises(Conflict, match="exists already"):
        tenant(world, expected=0)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"models": ("",)}, "no pattern"),
        ({"models": ("llama@2",)}, "no pattern"),
        ({"models": ("a b",)}, "no pattern"),
        ({"models": ("x" * 64,)}, "no pattern"),
        ({"models": ("a", "a")}, "each once"),
        ({"models": tuple(f"m{i}" for i in range(101))}, "at most 100"),
        ({"residency": ("eu", "eu")}, "each once"),
        ({"residency": ("us",)}, "region 'us' is unknown"),
        ({"requests_per_minute": -1}, "requests_per_minute must be 0"),
        ({"tokens_per_minute": 10**9 + 1}, "tokens_per_minute must be 0"),
        ({"max_concurrent": -5}, "max_concurrent must be 0"),
    ],
)
def test_what_makes_no_sense_is_refused(world: World, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        tenant(world, **spec)


@pytest.mark.parametrize("name", ["", "Acme", "a_b", "-a", "anonymous", "x" * 64])
def test_names(world: World, name: str) -> None:
    with pytest.raises(Invalid):
        tenant(world, name)


def test_a_tenant_with_keys_is_not_deleted(world: World) -> None:
    tenant(world)
    tenant(world, "other")
    key(world, "one")
    key(world, "theirs", "other")
    with pytest.raises(Conflict, match="still has 1 keys: one") as caught:
        world.remove("Tenant", "acme")
    assert caught.value.reason == "in-use"
    for i in range(10):
        key(world, f"k{i}")
    with pytest.raises(Conflict, match=r"11 keys: k0, .*k7, \.\.\."):
        world.remove("Tenant", "acme")
    for id in keys_of(world.state, "acme"):
        world.remove("Key", id)
    world.remove("Tenant", "acme")
    assert list(world.state.tenants) == ["other"]
    with pytest.raises(NotFound, match="tenant 'acme' is unknown"):
        world.remove("Tenant", "acme")


def test_a_restart_forgets_no_tenant(world: World) -> None:
    tenant(world, residency=("eu",))
    before = dict(world.state.tenants)
    world.restart()
    assert world.state.tenants == before
    assert residing(world.state, "eu") == ["acme"]
    assert residing(world.state, "us") == []


def test_the_words() -> None:
    assert words(TenantSpec()) == "all models; in all regions"
    spec = TenantSpec(models=("a", "b*"), residency=("eu",), tokens_per_minute=5, max_concurrent=2)
    assert words(spec) == "models a, b*; only in eu; 5 tokens a minute; 2 requests at once"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("apply", "remove", "key", "revoke")),
            st.sampled_from(("a", "b")),
            st.sampled_from(("k1", "k2", "k3")),
        ),
        max_size=40,
    )
)
def test_a_key_always_has_its_tenant(steps: list[tuple[str, str, str]]) -> None:
    world = World()
    for verb, name, id in steps:
        try:
            match verb:
                case "apply":
                    tenant(world, name)
                case "remove":
                    world.remove("Tenant", name)
                case "key":
                    key(world, id, name)
                case _:
                    world.remove("Key", id)
        except (AlreadyExists, Conflict, NotFound):
            pass
        assert all(key.tenant in world.state.tenants for key in world.state.keys.values())


def test_a_region_that_a_tenant_resides_in_cannot_be_deleted(world: World) -> None:
    tenant(world, residency=("eu",))
    with pytest.raises(Conflict, match="used by tenants"):
        world.remove("Region", "eu")
