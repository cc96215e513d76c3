from federation.contract.capacity import Resources
from federation.contract.resources import ClusterSpec, DeploymentSpec
from federation.contract.types import EngineKind
from federation.policy.choosing import choose
from federation.policy.obstacles import obstacles
from federation.policy.rooms import Rooms
from federation.policy.settle import wish_in
from tests.federation.policy.world import World

ONE = Resources(gpus=1)


def told(world: World, name: str = "d") -> dict[str, str]:
    wish, rooms = wish_in(world.state, world.state.deployments[name]), Rooms(world.state)
    return {each.cluster: each.reason for each in obstacles(wish, rooms, choose(wish, rooms))}


def fleet() -> World:
    world = World()
    world.cluster("a", "eu", gpus=2)
    world.cluster("b", "us", gpus=1)
    for model in ("m", "n"):
        world.push(model)
    return world


def test_each_cluster_that_cannot_names_the_nearest_miss() -> None:
    world = fleet()
    world.deploy(DeploymentSpec(model="n", regions=("eu",), resources=ONE), "other")
    world.deploy(DeploymentSpec(model="m", resources=Resources(gpus=2)))
    assert told(world) == {
        "a": "needs 2 GPUs on one node; the most that are free together is 1 (n 1 holds 1)",
        "b": "needs 2 GPUs on one node; the most that are free together is 1",
    }


def test_what_was_not_selected_is_no_obstacle_and_what_is_of_the_wrong_kind_is() -> None:
    world = fleet()
    world.cluster("r", "eu", engine=EngineKind.RAY_SERVE, gpus=1)
    world.region("ap")
    priced = ClusterSpec(region="ap", labels={"price-per-gpu-hour": "4"})
    world.cluster("p", "ap", spec=priced)
    spec = DeploymentSpec(model="m", regions=("eu",), engine=EngineKind.TRITON)
    world.deploy(spec)
    assert told(world) == {"r": "its engine is ray-serve, the deployment asks for triton"}
    world.deploy(DeploymentSpec(model="m", regions=("ap", "us"), max_price_per_gpu_hour=3))
    assert told(world) == {
        "b": "its label 'price-per-gpu-hour' tells no price, the deployment pays 3 at most",
        "p": "a GPU costs 4 an hour there, the deployment pays 3 at most",
    }


def test_who_has_enough_is_not_told_of_the_others() -> None:
    world = fleet()
    world.deploy(DeploymentSpec(model="m", clusters=1, resources=Resources(gpus=2)))
    assert told(world) == {}
    world.deploy(DeploymentSpec(model="m", clusters=2, resources=Resources(gpus=2)))
    assert list(told(world)) == ["b"]


def test_less_room_than_before_is_told_and_nothing_goes() -> None:
    world = fleet()
    world.deploy(DeploymentSpec(model="m", regions=("eu",), replicas=2, resources=ONE))
    world.serve("a")
    world.gpus["a"] = 1
    world.serve("a")
    assert world.assigned("a") == [("m", 1)]
    assert told(world) == {
        "a": "overcommitted: m 1 has no room for 1 times 1 GPU; nothing goes by itself: remove "
        "something, or add room"
    }


def test_more_replicas_than_fit_are_told() -> None:
    world = fleet()
    world.deploy(DeploymentSpec(model="m", regions=("eu",), replicas=1, resources=ONE))
    world.deploy(DeploymentSpec(model="m", regions=("eu",), replicas=3, resources=ONE))
    assert told(world) == {
        "a": "version 1 stays at 1 of 3 replicas: needs 3 times 1 GPU and has room for 2"
    }
    world.deploy(DeploymentSpec(model="m", regions=("eu",), replicas=2, resources=ONE))
    assert world.state.clusters["a"].assignment.versions[0].replicas == 2


def test_two_that_must_be_apart_and_are_not_are_told() -> None:
    world = fleet()
    world.deploy(DeploymentSpec(model="n"), "other")
    world.deploy(DeploymentSpec(model="m", anti_affinity=("n",)))
    assert told(world)["a"] == "model 'n' is there, and the two must be apart"
    world.remove("Deployment", "other")
    assert told(world) == {}
    world.deploy(DeploymentSpec(model="m"))
    world.deploy(DeploymentSpec(model="n"), "other")
    world.deploy(DeploymentSpec(model="m", anti_affinity=("n",)))
    assert told(world)["a"] == "model 'n' is there as well, though the two must be apart"
    assert world.assigned("a") == [("m", 1), ("n", 1)]
