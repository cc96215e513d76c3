import pytest

from federation.contract.resources import DeploymentSpec
from federation.contract.types import Scheduling, VersionState
from tests.federation.policy.world import World


def default(world: World) -> int:
    (route,) = world.snapshot().models
    return route.default_version


@pytest.fixture
def world() -> World:
    """Clusters a and b serve m@1; m@2 is pushed and not deployed yet."""
    world = World()
    world.cluster("a")
    world.cluster("b")
    world.push("m", "1")
    world.deploy(DeploymentSpec(model="m", version=1))
    world.serve("a")
    world.serve("b")
    world.push("m", "2")
    return world


def test_a_model_that_nobody_serves_yet_points_at_its_wish() -> None:
    world = World()
    world.cluster("a")
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    assert default(world) == 1
    assert world.state.deployments["d"].routed_version == 0


def test_the_default_moves_when_the_first_cluster_is_warm(world: World) -> None:
    world.deploy(DeploymentSpec(model="m", version=2))
    assert default(world) == 1
    world.serve("a")
    assert default(world) == 2
    assert world.told().count("DefaultVersionMoved") == 2


def test_a_version_that_fails_everywhere_never_becomes_the_default(world: World) -> None:
    world.deploy(DeploymentSpec(model="m", version=2))
    for name in ("a", "b"):
        old, new = world.seen(name, only=1), world.seen(name, VersionState.FAILED, only=2)
        world.report(name, [*old, *new])
    assert default(world) == 1


def test_the_default_is_served_by_someone_when_the_only_new_one_is_lost(world: World) -> None:
    world.deploy(DeploymentSpec(model="m", version=2))
    world.serve("a")
    world.advance(6)
    world.report("b", world.seen("b", only=1))
    world.advance(6)
    assert default(world) == 1
    world.serve("a")
    assert default(world) == 2


def test_the_default_stays_when_all_contact_is_lost(world: World) -> None:
    world.deploy(DeploymentSpec(model="m", version=2))
    world.serve("a")
    world.advance(60)
    assert default(world) == 2


def test_the_default_survives_a_restart_and_does_not_flap(world: World) -> None:
    world.deploy(DeploymentSpec(model="m", version=2))
    world.serve("a")
    world.restart()
    assert default(world) == 2
    world.connect("b")
    world.report("b", world.seen("b", only=1))
    assert default(world) == 2


def test_a_restart_does_not_promote_what_may_be_dead(world: World) -> None:
    world.deploy(DeploymentSpec(model="m", version=2))
    world.serve("a")
    world.advance(6)
    world.report("b", world.seen("b", only=1))
    world.advance(6)
    assert default(world) == 1
    world.restart()
    assert default(world) == 1


def test_draining_clusters_and_those_outside_of_the_residency_do_not_count(world: World) -> None:
    world.deploy(DeploymentSpec(model="m", version=2))
    world.schedule("a", Scheduling.DRAINING)
    world.serve("a")
    assert default(world) == 1
    world.schedule("a", Scheduling.ACTIVE)
    assert default(world) == 2
    world.region("us")
    world.deploy(DeploymentSpec(model="m", version=1, residency=("us",)))
    assert default(world) == 2
    assert world.state.deployments["d"].routed_version == 2
