"""Which clusters get it, and that who has it keeps it."""

from dataclasses import replace

import pytest

from federation.contract.capacity import Resources
from federation.contract.resources import ClusterSpec, DeploymentSpec
from federation.contract.types import EngineKind, Scheduling
from federation.policy.choosing import choose
from federation.policy.events import ClusterApplied
from federation.policy.rooms import Rooms
from federation.policy.settle import wish_in
from tests.federation.policy.world import ACTOR, World

ONE = Resources(gpus=1)


def fleet(*clusters: tuple[str, str, int], prices: dict[str, str] | None = None) -> World:
    """Clusters (name, region, GPUs) and the model m."""
    world = World()
    for name, region, gpus in clusters:
        if region not in world.state.regions:
            world.region(region)
        price = (prices or {}).get(name)
        labels = {"price-per-gpu-hour": price} if price else {}
        world.cluster(name, region, gpus=gpus, spec=ClusterSpec(region=region, labels=labels))
    world.push("m")
    world.push("n")
    return world


def at(world: World, model: str = "m") -> set[str]:
    return {
        name
        for name in world.state.clusters
        if any(each == model for each, _ in world.assigned(name))
    }


def wanted(clusters: int, **more: object) -> DeploymentSpec:
    return DeploymentSpec(model="m", clusters=clusters, resources=ONE, **more)  # type: ignore[arg-type]


def test_without_a_number_it_goes_everywhere_that_matches() -> None:
    world = fleet(("a", "eu", 1), ("b", "us", 1))
    world.deploy(wanted(0))
    assert at(world) == {"a", "b"}


def test_regions_are_filled_evenly_then_the_most_room_counts() -> None:
    world = fleet(("a", "eu", 4), ("b", "eu", 8), ("c", "us", 1), ("d", "us", 1))
    world.deploy(wanted(2))
    assert at(world) == {"a", "c"}, "all are as empty: the first name of each region"
    world.deploy(DeploymentSpec(model="n", clusters=1, resources=ONE, regions=("eu",)), "e")
    assert at(world, "n") == {"b"}, "b is emptier now"
    world.deploy(wanted(3))
    assert at(world) > {"a", "c"}


def test_without_spread_the_region_does_not_count() -> None:
    world = fleet(("a", "eu", 1), ("b", "eu", 1), ("c", "us", 1))
    world.deploy(wanted(2, spread=False))
    assert at(world) == {"a", "b"}


def test_price_decides_between_equals_and_is_a_ceiling() -> None:
    prices = {"a": "3", "b": "2", "c": "2.5"}
    world = fleet(("a", "eu", 1), ("b", "eu", 1), ("c", "eu", 1), ("d", "eu", 1), prices=prices)
    world.deploy(wanted(1))
    assert at(world) == {"b"}
    world.deploy(wanted(0, max_price_per_gpu_hour=2.5))
    assert at(world) == {"b", "c"}


def test_without_gpus_the_one_with_the_fewest_versions_is_taken() -> None:
    world = fleet(("a", "eu", 0), ("b", "eu", 0))
    world.deploy(DeploymentSpec(model="m", clusters=1))
    world.deploy(DeploymentSpec(model="n", clusters=1), "e")
    assert (at(world), at(world, "n")) == ({"a"}, {"b"})


def test_who_has_it_keeps_it() -> None:
    world = fleet(("a", "eu", 1), ("b", "us", 1))
    world.deploy(wanted(1))
    assert at(world) == {"a"}
    world.serve("a")
    world.region("ap")
    world.cluster("0", "ap", gpus=8)
    assert at(world) == {"a"}, "more room elsewhere is no reason to move"
    world.advance(60)
    assert at(world) == {"a"}, "nor is silence"
    world.schedule("a", Scheduling.CORDONED)
    assert at(world) == {"a"}


def test_a_draining_cluster_holds_no_place() -> None:
    world = fleet(("a", "eu", 1), ("b", "us", 1))
    world.deploy(wanted(1))
    world.serve("a")
    world.schedule("a", Scheduling.DRAINING)
    assert at(world) == {"a", "b"}, "it goes on until an operator lets it go"
    world.serve("b")
    world.schedule("a", Scheduling.ACTIVE)
    world.serve("a")
    world.serve("b")
    assert len(at(world)) == 1


def test_fewer_clusters_are_left_when_the_others_are_warm() -> None:
    world = fleet(("a", "eu", 1), ("b", "us", 1))
    world.deploy(wanted(2))
    world.serve("b")
    world.deploy(wanted(1))
    assert at(world) == {"b"}, "the one where it is warm stays"


def test_a_change_goes_where_old_and_new_fit() -> None:
    """At a the old version holds the only GPU; b has room: the new one is served there instead."""
    world = fleet(("a", "eu", 1), ("b", "us", 1))
    world.deploy(wanted(1, version=1))
    world.serve("a")
    world.push("m", "2")
    world.deploy(wanted(1, version=2))
    assert (world.assigned("a"), world.assigned("b")) == ([("m", 1)], [("m", 2)])
    world.serve("b")
    assert at(world) == {"b"}


def test_a_change_that_fits_nowhere_waits_where_it_is() -> None:
    world = fleet(("a", "eu", 1))
    world.deploy(wanted(1, version=1))
    world.serve("a")
    world.push("m", "2")
    world.deploy(wanted(1, version=2))
    world.serve("a")
    assert world.assigned("a") == [("m", 1)]
    wish = wish_in(world.state, world.state.deployments["d"])
    assert choose(wish, Rooms(world.state)) == {"a"}


def test_models_that_must_be_apart_are_whoever_says_so() -> None:
    world = fleet(("a", "eu", 4), ("b", "eu", 4))
    world.deploy(wanted(1, anti_affinity=("n",)))
    world.deploy(DeploymentSpec(model="n"), "e")
    assert (at(world), at(world, "n")) == ({"a"}, {"b"})
    world.deploy(wanted(1))
    assert at(world, "n") == {"a", "b"}


@pytest.mark.parametrize("engine", [EngineKind.TRITON, EngineKind.RAY_SERVE])
def test_only_clusters_with_the_engine_are_taken(engine: EngineKind) -> None:
    world = fleet()
    world.cluster("t", engine=EngineKind.TRITON, gpus=1)
    world.cluster("r", engine=EngineKind.RAY_SERVE, gpus=1)
    world.deploy(wanted(0, engine=engine))
    assert at(world) == {"t" if engine is EngineKind.TRITON else "r"}


def test_a_label_that_changes_lets_it_move_on() -> None:
    world = fleet(("a", "eu", 1), ("b", "eu", 1))
    world.deploy(wanted(1))
    world.serve("a")
    spec = world.state.clusters["a"].spec
    world.deploy(wanted(1, cluster_labels={"tier": "gold"}))
    assert at(world) == {"a"}, "nothing else can"
    gold = replace(world.state.clusters["b"].spec, labels={"tier": "gold"})
    world.do(ClusterApplied(actor=ACTOR, name="b", spec=gold))
    assert at(world) == {"a", "b"}
    world.serve("b")
    assert at(world) == {"b"}
    assert spec.labels == {}


def test_needs_that_do_not_fit_where_it_is_move_it_to_where_they_do() -> None:
    world = fleet(("a", "eu", 1), ("b", "us", 1), ("c", "us", 4))
    world.deploy(wanted(1))
    assert at(world) == {"a"}
    world.deploy(DeploymentSpec(model="m", clusters=1, resources=Resources(gpus=3)))
    assert at(world) == {"a", "c"}, "it goes from a when it is warm at c"
