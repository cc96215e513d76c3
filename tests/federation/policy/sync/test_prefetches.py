import pytest

from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.resources import PrefetchSpec
from federation.policy.events import ObjectRemoved
from federation.policy.sync.events import PrefetchApplied
from tests.federation.policy.world import ACTOR, World


@pytest.fixture
def world() -> World:
    world = World()
    world.cluster("c")
    world.push("m")
    world.push("n")
    return world


def test_its_life_is_told(world: World) -> None:
    assert world.prefetch(PrefetchSpec(model="m", version=1)).created
    assert not world.prefetch(PrefetchSpec(model="m", version=1)).created
    world.prefetch(PrefetchSpec(model="m", version=1, regions=("eu",)))
    world.remove("Prefetch", "p")
    mine = [(r.reason, r.message) for r in world.state.audit.values() if r.kind == "Prefetch"]
    assert mine == [
        ("PrefetchCreated", "version 1 of model 'm' shall lie ready in all regions."),
        ("PrefetchChanged", "version 1 of model 'm' shall lie ready in eu."),
        ("PrefetchDeleted", "prefetch 'p' of model 'm' version 1 was deleted."),
    ]


def test_a_change_to_another_model_lets_the_first_one_go(world: World) -> None:
    world.prefetch(PrefetchSpec(model="m", version=1))
    world.prefetch(PrefetchSpec(model="n", version=1))
    assert world.staged("c") == [("n", 1)]


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        (PrefetchSpec(model="x", version=1), NotFound, "model 'x' is unknown"),
        (PrefetchSpec(model="m", version=2), NotFound, "has no version 2"),
        (PrefetchSpec(model="m", version=0), Invalid, "1 or more"),
        (PrefetchSpec(model="m", version=-1), Invalid, "1 or more"),
        (PrefetchSpec(model="m", version=1, regions=("us",)), NotFound, "region 'us'"),
    ],
)
def test_it_names_what_there_is(
    world: World, spec: PrefetchSpec, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        world.prefetch(spec)


def test_who_read_an_older_one_is_refused(world: World) -> None:
    world.prefetch(PrefetchSpec(model="m", version=1))
    for event in (
        PrefetchApplied(actor=ACTOR, name="p", spec=PrefetchSpec(model="n", version=1), expected=1),
        ObjectRemoved(actor=ACTOR, kind="Prefetch", name="p", expected=1),
    ):
        with pytest.raises(Conflict):
            world.do(event)
    with pytest.raises(NotFound, match="prefetch 'q' is unknown"):
        world.remove("Prefetch", "q")
    with pytest.raises(Invalid):
        world.prefetch(PrefetchSpec(model="m", version=1), "NO NAME")


def test_what_it_names_cannot_be_deleted(world: World) -> None:
    world.region("us")
    world.prefetch(PrefetchSpec(model="m", version=1, regions=("us",)))
    for kind, name in (("Model", "m"), ("Region", "us")):
        with pytest.raises(Conflict, match=r"is used by prefetches p\."):
            world.remove(kind, name)
    world.remove("Prefetch", "p")
    world.remove("Model", "m")
    world.remove("Region", "us")


def test_it_survives_a_restart(world: World) -> None:
    world.prefetch(PrefetchSpec(model="m", version=1))
    world.restart()
    assert world.state.prefetches["p"].spec.model == "m"
    assert world.staged("c") == [("m", 1)]
