import pytest

from federation.contract.errors import NotFound
from federation.policy import lookup
from federation.policy.events import AliasMoved
from tests.federation.policy.world import ACTOR, World


@pytest.fixture
def world() -> World:
    world = World()
    world.push("m", "a")
    world.push("m", "b")
    world.do(AliasMoved(actor=ACTOR, model="m", alias="champion", version=1))
    return world


@pytest.mark.parametrize(("wanted", "number"), [(0, 2), (1, 1), ("2", 2), ("champion", 1)])
def test_a_version_is_a_number_an_alias_or_the_newest(
    world: World, wanted: int | str, number: int
) -> None:
    assert lookup.resolve(world.state.models["m"], wanted) == number


@pytest.mark.parametrize(
    ("wanted", "words"), [(3, "no version 3"), (-1, "no version -1"), ("champ", "no alias 'champ'")]
)
def test_what_there_is_not_is_told_with_what_there_is(
    world: World, wanted: int | str, words: str
) -> None:
    with pytest.raises(NotFound, match=words) as refusal:
        lookup.resolve(world.state.models["m"], wanted)
    assert "'champion'" in refusal.value.hint or "1, 2" in refusal.value.hint


def test_the_remedy_names_the_object() -> None:
    with pytest.raises(NotFound) as refusal:
        lookup.deployment(World().state, "d")
    assert refusal.value.reason == "unknown-deployment"
    assert refusal.value.hint == ("There are none yet. Create it with: fed deploy MODEL --name d")
