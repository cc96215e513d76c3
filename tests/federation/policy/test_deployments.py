import pytest

from federation.contract.capacity import Resources
from federation.contract.errors import Conflict, FederationError, Invalid, NotFound
from federation.contract.resources import DeploymentSpec, ModelSpec
from federation.policy.events import DeploymentApplied, ModelApplied
from tests.federation.policy.world import ACTOR, World


@pytest.fixture
def world() -> World:
    world = World()
    world.cluster("e", "eu")
    world.cluster("u", "us")
    world.push("m", "1")
    world.push("m", "2")
    return world


def test_a_deployment_assigns_its_versions(world: World) -> None:
    assert world.deploy(DeploymentSpec(model="m", version=1, pinned_versions=(2,))).created
    assert world.assigned("e") == world.assigned("u") == [("m", 1), ("m", 2)]


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        (DeploymentSpec(model="x"), NotFound, "model 'x' is unknown"),
        (DeploymentSpec(model="m", version=3), NotFound, "no version 3"),
        (DeploymentSpec(model="m", version="best"), NotFound, "no alias 'best'"),
        (DeploymentSpec(model="m", pinned_versions=(7,)), NotFound, "no version 7"),
        (DeploymentSpec(model="m", regions=("eu-west",)), NotFound, "region 'eu-west'"),
        (DeploymentSpec(model="m", residency=("moon",)), NotFound, "region 'moon'"),
        (DeploymentSpec(model="m", regions=("us",), residency=("eu",)), Invalid, "residency"),
        (DeploymentSpec(model="m", replicas=0), Invalid, "replicas must be 1 to"),
        (DeploymentSpec(model="m", resources=Resources(gpus=-1)), Invalid, "negative"),
        (DeploymentSpec(model="empty"), Invalid, "no version yet"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(
    world: World, spec: DeploymentSpec, error: type[FederationError], words: str
) -> None:
    world.do(ModelApplied(actor=ACTOR, name="empty", spec=ModelSpec()))
    with pytest.raises(error, match=words):
        world.deploy(spec)


def test_one_model_has_one_deployment(world: World) -> None:
    world.deploy(DeploymentSpec(model="m"))
    with pytest.raises(Conflict, match="deployed by 'd' already"):
        world.deploy(DeploymentSpec(model="m"), "second")


def test_the_same_wish_again_changes_nothing(world: World) -> None:
    world.deploy(DeploymentSpec(model="m"))
    revision = world.state.revision
    world.deploy(DeploymentSpec(model="m"))
    assert world.state.revision == revision


def test_a_stale_wish_is_a_conflict(world: World) -> None:
    world.deploy(DeploymentSpec(model="m"))
    spec = DeploymentSpec(model="m", version=1)
    with pytest.raises(Conflict, match="changed since you read it"):
        world.do(DeploymentApplied(actor=ACTOR, name="d", spec=spec, expected=1))


def test_another_model_takes_the_place_of_the_first(world: World) -> None:
    world.deploy(DeploymentSpec(model="m"))
    world.serve("e")
    world.push("n")
    world.deploy(DeploymentSpec(model="n"))
    assert world.assigned("e") == [("n", 1)]
    assert world.state.deployments["d"].routed_version == 0


def test_a_deleted_deployment_unloads_everywhere(world: World) -> None:
    world.deploy(DeploymentSpec(model="m"))
    world.serve("e")
    world.remove("Deployment", "d")
    assert world.assigned("e") == world.assigned("u") == []
    assert world.snapshot().models == ()
