from federation.contract.resources import DeploymentSpec
from federation.contract.types import EngineKind
from federation.policy.events import Assign, PublishSnapshot
from federation.policy.settle import settle, wishes_of
from federation.policy.state import Step
from tests.federation.policy.world import World


def test_generations_change_only_with_their_content() -> None:
    world = World()
    world.cluster("c")
    world.push("m")
    first = world.state.clusters["c"].assignment.generation
    world.deploy(DeploymentSpec(model="m"))
    world.serve("c")
    world.connect("c")
    world.serve("c")
    assert world.state.clusters["c"].assignment.generation == first + 1
    world.deploy(DeploymentSpec(model="m", replicas=2))
    assert world.state.clusters["c"].assignment.generation == first + 2
    assert world.state.clusters["c"].assignment.versions[0].replicas == 2


def test_an_assignment_is_written_sent_and_told() -> None:
    world = World()
    world.cluster("c")
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    (sent,) = (c.assignment for c in world.commands if isinstance(c, Assign))
    assert sent == world.state.clusters["c"].assignment
    told = [r.message for r in world.state.audit.values() if r.reason == "AssignmentChanged"]
    assert told == ["cluster 'c' shall serve m 1."]


def test_models_that_are_not_meant_stay_as_they_are() -> None:
    world = World()
    world.cluster("c")
    world.push("m")
    world.push("n")
    world.deploy(DeploymentSpec(model="m"))
    world.deploy(DeploymentSpec(model="n"), "e")
    assert world.assigned("c") == [("m", 1), ("n", 1)]
    world.remove("Deployment", "e")
    assert world.assigned("c") == [("m", 1)]
    assert set(wishes_of(world.state)) == {"m"}


def test_settling_twice_changes_nothing() -> None:
    world = World()
    world.cluster("a")
    world.cluster("b", engine=EngineKind.RAY_SERVE)
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    before = world.state.copy()
    step = Step(world.state, world.now, "test")
    settle(step)
    assert step.commands == [PublishSnapshot()]
    assert world.state == before
