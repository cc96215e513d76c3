from dataclasses import replace
from typing import Any

from federation.contract.resources import ClusterSpec, DeploymentSpec
from federation.contract.types import (
    EngineKind,
    EngineStatus,
    ObservedVersion,
    Scheduling,
    VersionState,
)
from federation.policy.cluster_view import cluster_status
from federation.policy.events import AgentReported, RouterReported
from federation.policy.records import ClusterSeen
from tests.federation.policy.world import World


def status(world: World) -> dict[str, Any]:
    return cluster_status(world.state, world.state.clusters["c"], world.now)


def condition(world: World, kind: str) -> tuple[str, str]:
    found = next(c for c in status(world)["conditions"] if c["type"] == kind)
    return found["status"], found["message"]


def test_the_life_of_a_cluster_in_reasons() -> None:
    world = World()
    world.region("eu")
    world.register("c", ClusterSpec(region="eu"))
    assert status(world)["reason"] == "its agent has not joined yet"
    assert status(world)["last_report_s"] is None
    world.engines["c"] = EngineKind.TRITON
    world.join("c")
    world.connect("c")
    assert status(world)["reason"] == "waiting for the first report of its agent"
    world.report("c")
    assert status(world)["ready"] is True
    assert status(world)["reason"] == ""
    world.advance(12)
    assert status(world)["reason"] == "no report for 12 s"
    assert condition(world, "InContact") == ("False", "its lease is over")
    world.restart()
    world.advance(11)
    reason = "nothing was heard of its agent since the control plane started"
    assert status(world)["reason"] == reason


def test_what_a_healthy_cluster_shows() -> None:
    world = World()
    world.cluster("c", gpus=2)
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    world.serve("c")
    world.now = world.state.presences["c"].expires_at.replace(second=4)
    shown = status(world)
    assert (shown["gpus"], shown["gpu_products"]) == (2, {"L4": 2})
    assert shown["engine"] == {"kind": "triton", "version": "2.1", "ready": True, "reason": ""}
    epoch = world.state.clusters["c"].epoch
    assert shown["lease"] == {"epoch": epoch, "expires_in_s": 6.0, "connected": True}
    assert shown["last_report_s"] == 4.0
    assert shown["models"] == {"warm": 1, "assigned": 1, "staged": 0}
    assert {c["status"] for c in shown["conditions"]} == {"True"}


def test_an_engine_that_is_down_is_the_reason() -> None:
    world = World()
    world.cluster("c")
    report = world.make_report("c")
    engine = EngineStatus(kind=EngineKind.TRITON, reason="connection refused")
    world.do(
        AgentReported(report=replace(report, observed=replace(report.observed, engine=engine)))
    )
    assert status(world)["reason"] == "engine triton: connection refused"


def test_what_was_assigned_and_not_reported_is_pending() -> None:
    world = World()
    world.cluster("c")
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    (version,) = status(world)["versions"]
    assert (version["state"], version["reason"]) == ("pending", "assigned, not reported yet")
    assert condition(world, "ModelsSynced") == ("False", "0 of 1 versions are warm")


def test_live_numbers_come_from_the_newest_report() -> None:
    world = World()
    world.cluster("c")
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    world.serve("c")
    world.report("c", [replace(v, in_flight=3) for v in world.seen("c")])
    assert status(world)["versions"][0]["in_flight"] == 3


def test_a_static_engine_counts_what_it_shows() -> None:
    world = World()
    world.cluster("c", engine=EngineKind.STATIC)
    shown = ObservedVersion(model="llama", version=1, digest="", state=VersionState.WARMED)
    world.report("c", [shown])
    assert status(world)["models"] == {"warm": 1, "assigned": 1, "staged": 0}


def test_a_cordoned_cluster_is_ready_and_not_schedulable() -> None:
    world = World()
    world.cluster("c")
    world.schedule("c", Scheduling.CORDONED)
    assert status(world)["ready"] is True
    assert condition(world, "Schedulable") == ("False", "set by an operator")


def test_routers_measurements_are_shown_by_router() -> None:
    world = World()
    world.cluster("c")
    for name, rtt_ms in (("r1", 12.5), ("r2", 0.0)):
        world.router(name)
        clusters = {"c": ClusterSeen(rtt_ms=rtt_ms, healthy=True)}
        world.do(
            RouterReported(
                name=name, instance="i1", requests_total=0, errors_total=0, clusters=clusters
            )
        )
    assert status(world)["rtt_ms"] == {"r1": 12.5}


def test_a_membership_is_told_until_it_is_revoked() -> None:
    world = World()
    world.region("eu")
    world.register("c", ClusterSpec(region="eu"), require_accept=True)
    world.join("c", key="the key")
    assert status(world)["reason"] == "it waits for an operator: fed cluster accept c"
    assert (status(world)["accepted"], status(world)["waiting_key_sha256"]) == (False, "the key")
    world.accept("c")
    shown = status(world)
    assert (shown["joined"], shown["accepted"], shown["waiting_key_sha256"]) == (True, True, "")
    assert shown["certificate_generation"] == world.state.clusters["c"].membership.generation
    assert shown["connectivity"] == "dial"
    world.revoke("c")
    assert status(world)["revoked"] is True
    assert status(world)["reason"] == "its membership was revoked"
    assert condition(world, "Joined") == ("False", "its membership was revoked")
