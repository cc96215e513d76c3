from dataclasses import replace
from typing import Any

from federation.contract.resources import ClusterSpec, DeploymentSpec
from federation.contract.rollout import RolloutSpec
from federation.contract.types import Runtime, VersionState
from federation.policy.deployment_view import deployment_status
from federation.policy.rollouts.events import RolloutApplied, RolloutSteered, Verb
from tests.federation.policy.world import World


def status(world: World) -> dict[str, Any]:
    return deployment_status(world.state, world.state.deployments["d"], world.now)


def two_clusters() -> World:
    world = World()
    world.cluster("a", "eu")
    world.cluster("b", "us")
    world.push("m", "1")
    world.deploy(DeploymentSpec(model="m"))
    return world


def test_a_deployment_becomes_ready_step_by_step() -> None:
    world = two_clusters()
    assert status(world)["reason"] == "version 1 is warm at 0 of 2 clusters"
    world.serve("a")
    assert (status(world)["warm"], status(world)["wanted"]) == (1, 2)
    assert status(world)["routed_version"] == 1
    world.serve("b")
    shown = status(world)
    assert shown["ready"] is True
    assert shown["reason"] == ""
    assert shown["clusters"][0] == {
        "cluster": "a",
        "region": "eu",
        "versions": [
            {
                "version": 1,
                "state": "warmed",
                "replicas": 0,
                "given": 1,
                "max_replicas": 0,
                "busy": None,
                "reason": "",
            }
        ],
    }


def test_a_new_version_shows_old_and_new() -> None:
    world = two_clusters()
    world.serve("a")
    world.serve("b")
    world.push("m", "2")
    shown = status(world)
    assert (shown["version"], shown["routed_version"], shown["ready"]) == (2, 1, False)
    states = [(v["version"], v["state"]) for v in shown["clusters"][0]["versions"]]
    assert states == [(1, "warmed"), (2, "pending")]


def test_a_failure_shows_its_reason() -> None:
    world = two_clusters()
    seen = world.seen("a", VersionState.FAILED)
    world.report("a", [replace(v, reason="out of memory") for v in seen])
    version = status(world)["clusters"][0]["versions"][0]
    assert (version["state"], version["reason"]) == ("failed", "out of memory")


def test_a_cluster_that_cannot_says_why() -> None:
    world = World()
    world.cluster("c", spec=ClusterSpec(region="eu"))
    world.push("m", runtime=Runtime.PYTHON)
    world.deploy(DeploymentSpec(model="m"))
    shown = status(world)
    (cannot,) = shown["cannot"]
    assert cannot["cluster"] == "c"
    assert "carries code" in cannot["reason"]
    assert shown["reason"] == "no cluster was given version 1"
    assert shown["ready"] is False


def test_a_cluster_without_contact_does_not_count_as_warm() -> None:
    world = two_clusters()
    world.serve("a")
    world.serve("b")
    world.advance(11)
    world.report("a", world.seen("a"))
    shown = status(world)
    assert (shown["warm"], shown["wanted"], shown["ready"]) == (1, 2, False)
    assert shown["clusters"][1]["versions"][0]["reason"] == "no report for 11 s"


def test_a_region_that_is_left_is_shown_until_it_is_empty() -> None:
    world = two_clusters()
    world.serve("a")
    world.deploy(DeploymentSpec(model="m", regions=("us",)))
    reason = status(world)["clusters"][0]["versions"][0]["reason"]
    assert reason == "it goes when another cluster has taken over"
    world.serve("b")
    assert [c["cluster"] for c in status(world)["clusters"]] == ["b"]


def test_how_busy_the_replicas_are_is_told_while_they_are_heard_of() -> None:
    world = two_clusters()
    for _ in range(2):
        seen = [replace(v, replicas=2, in_flight=1) for v in world.seen("a")]
        world.report("a", seen)
    (version,) = status(world)["clusters"][0]["versions"]
    assert (version["replicas"], version["given"], version["busy"]) == (2, 1, 0.5)
    world.advance(60)
    (version,) = status(world)["clusters"][0]["versions"]
    assert version["busy"] is None


def test_a_rollout_that_goes_on_and_a_version_that_was_rolled_back_are_told() -> None:
    world = two_clusters()
    world.serve("a")
    world.serve("b")
    assert (status(world)["rollout"], status(world)["rejected"]) == ("", 0)
    world.deploy(DeploymentSpec(model="m", version=1))
    world.push("m", "2")
    spec = RolloutSpec(model="m", version=2)
    world.do(RolloutApplied(actor="ada", name="r", spec=spec))
    assert status(world)["rollout"] == "r"
    assert status(world)["version"] == 1
    steered = RolloutSteered(actor="ada", name="r", verb=Verb.ABORT)
    world.do(steered)
    assert status(world)["rejected"] == 2
