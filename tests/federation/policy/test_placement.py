from dataclasses import replace

import pytest

from federation.contract.capacity import Resources
from federation.contract.resources import ClusterSpec, DeploymentSpec
from federation.contract.sync import Disk, SyncSpec
from federation.contract.types import EngineKind, Runtime, Scheduling, Urgency, VersionState
from federation.policy import placement
from federation.policy.events import AliasMoved, ClusterApplied
from federation.policy.meta import Meta
from federation.policy.placement import Fit, judge, not_selected, wish_of
from federation.policy.records import DeploymentRecord
from federation.policy.rooms import Rooms
from tests.federation.policy.world import ACTOR, World


def verdict(world: World, cluster: str, spec: DeploymentSpec) -> placement.Verdict:
    meta = Meta(name="d", generation=1, resource_version=1, created_at=world.now)
    wish = wish_of(DeploymentRecord(meta=meta, spec=spec), world.state.models[spec.model])
    return judge(wish, Rooms(world.state)[cluster], wish.target)


@pytest.mark.parametrize(
    ("engine", "runtime", "fits"),
    [
        (EngineKind.TRITON, Runtime.ONNX, True),
        (EngineKind.TRITON, Runtime.PYTHON, True),
        (EngineKind.TRITON, Runtime.TRITON, True),
        (EngineKind.TRITON, Runtime.RAY_SERVE, False),
        (EngineKind.RAY_SERVE, Runtime.ONNX, True),
        (EngineKind.RAY_SERVE, Runtime.PYTHON, True),
        (EngineKind.RAY_SERVE, Runtime.TRITON, False),
        (EngineKind.RAY_SERVE, Runtime.RAY_SERVE, True),
        (EngineKind.STATIC, Runtime.ONNX, False),
    ],
)
def test_engines_run_what_they_can(engine: EngineKind, runtime: Runtime, *, fits: bool) -> None:
    world = World()
    world.cluster("c", engine=engine)
    world.push("m", runtime=runtime)
    found = verdict(world, "c", DeploymentSpec(model="m"))
    assert found.fit is (Fit.FITS if fits else Fit.BARRED)
    assert fits or "engine" in found.reason


def test_code_goes_only_where_it_is_allowed() -> None:
    world = World()
    world.cluster("c", spec=ClusterSpec(region="eu"))
    world.push("m", runtime=Runtime.PYTHON)
    found = verdict(world, "c", DeploymentSpec(model="m"))
    assert found.fit is Fit.BARRED
    assert "carries code (runtime python)" in found.reason


def test_gpus_are_needed_only_if_asked_for() -> None:
    world = World()
    world.cluster("c", gpus=2)
    world.push("m")
    assert verdict(world, "c", DeploymentSpec(model="m")).fit is Fit.FITS
    spec = DeploymentSpec(model="m", resources=Resources(gpus=2))
    assert verdict(world, "c", spec).fit is Fit.FITS
    assert verdict(world, "c", replace(spec, replicas=2)).fit is Fit.KEEPS
    large = replace(spec, resources=Resources(gpus=1, memory_mib=80_000))
    assert verdict(world, "c", large).reason == "needs 78.1 GiB, largest block is 23.4 GiB"


def test_a_cluster_without_an_agent_gets_nothing() -> None:
    world = World()
    world.region("eu")
    world.register("c", ClusterSpec(region="eu"))
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    assert world.assigned("c") == []
    assert verdict(world, "c", DeploymentSpec(model="m")).reason == "its agent has not joined yet"


def test_selection_by_region_residency_and_labels() -> None:
    cluster = ClusterSpec(region="eu", labels={"tier": "a"})
    assert not_selected(DeploymentSpec(model="m"), cluster) == ""
    assert not_selected(DeploymentSpec(model="m", cluster_labels={"tier": "a"}), cluster) == ""
    assert "'us'" not in not_selected(DeploymentSpec(model="m", regions=("eu", "us")), cluster)
    assert "not one of us" in not_selected(DeploymentSpec(model="m", regions=("us",)), cluster)
    assert "residency" in not_selected(DeploymentSpec(model="m", residency=("us",)), cluster)
    assert "'tier'" in not_selected(
        DeploymentSpec(model="m", cluster_labels={"tier": "b"}), cluster
    )


@pytest.fixture
def served() -> World:
    """Clusters e and u serve m@1; m@2 is pushed and not deployed yet."""
    world = World()
    world.cluster("e", "eu", gpus=1)
    world.cluster("u", "us", gpus=1)
    world.push("m", "1")
    world.deploy(DeploymentSpec(model="m", version=1))
    world.serve("e")
    world.serve("u")
    world.push("m", "2")
    return world


def test_the_old_version_goes_after_the_new_one_is_warm(served: World) -> None:
    served.deploy(DeploymentSpec(model="m", version=2))
    assert served.assigned("e") == [("m", 1), ("m", 2)]
    served.report("e", served.seen("e", only=1))
    assert served.assigned("e") == [("m", 1), ("m", 2)]
    served.report("e", served.seen("e"))
    assert served.assigned("e") == [("m", 2)]
    assert served.assigned("u") == [("m", 1), ("m", 2)]


def test_a_pinned_version_stays(served: World) -> None:
    served.deploy(DeploymentSpec(model="m", version=2, pinned_versions=(1,)))
    served.serve("e")
    assert served.assigned("e") == [("m", 1), ("m", 2)]
    served.deploy(DeploymentSpec(model="m", version=2))
    served.serve("e")
    assert served.assigned("e") == [("m", 2)]


def test_a_report_about_an_older_assignment_removes_nothing(served: World) -> None:
    served.deploy(DeploymentSpec(model="m", version=2))
    old = served.state.clusters["e"].assignment.generation - 1
    served.report("e", served.seen("e"), generation=old)
    assert served.assigned("e") == [("m", 1), ("m", 2)]
    served.report("e", served.seen("e"))
    assert served.assigned("e") == [("m", 2)]


def test_other_content_under_the_same_number_is_not_warm(served: World) -> None:
    served.deploy(DeploymentSpec(model="m", version=2))
    served.report("e", [replace(v, digest="other") for v in served.seen("e")])
    assert served.assigned("e") == [("m", 1), ("m", 2)]


def test_a_cordoned_cluster_keeps_what_it_has_and_gets_nothing_new(served: World) -> None:
    served.schedule("e", Scheduling.CORDONED)
    served.deploy(DeploymentSpec(model="m", version=2))
    served.serve("u")
    assert served.assigned("u") == [("m", 2)]
    served.serve("e")
    assert served.assigned("e") == [("m", 1)]
    served.schedule("e", Scheduling.ACTIVE)
    served.serve("e")
    assert served.assigned("e") == [("m", 2)]


def test_a_draining_cluster_keeps_its_assignment(served: World) -> None:
    served.deploy(DeploymentSpec(model="m", version=2))
    served.schedule("e", Scheduling.DRAINING)
    served.serve("e")
    assert served.assigned("e") == [("m", 1), ("m", 2)]
    served.deploy(DeploymentSpec(model="m", version=2, regions=("us",)))
    served.serve("u")
    assert served.assigned("e") == [("m", 1), ("m", 2)]
    served.remove("Deployment", "d")
    assert served.assigned("e") == []


def test_a_region_that_is_left_serves_until_another_one_does(served: World) -> None:
    served.deploy(DeploymentSpec(model="m", version=2, regions=("us",)))
    assert served.assigned("e") == [("m", 1)]
    served.serve("u")
    assert served.assigned("u") == [("m", 2)]
    assert served.assigned("e") == []


def test_a_region_that_is_left_for_nobody_keeps_serving(served: World) -> None:
    served.region("ap")
    served.deploy(DeploymentSpec(model="m", version=1, regions=("ap",)))
    served.serve("e")
    assert served.assigned("e") == [("m", 1)]


def test_a_gpu_that_fails_unloads_nothing(served: World) -> None:
    spec = DeploymentSpec(model="m", version=1, resources=Resources(gpus=1))
    served.deploy(spec)
    served.gpus["e"] = 0
    served.serve("e")
    assert served.assigned("e") == [("m", 1)]
    served.deploy(replace(spec, version=2))
    served.serve("e")
    assert served.assigned("e") == [("m", 1)]
    served.gpus["e"] = 2
    served.serve("e")
    assert served.assigned("e") == [("m", 2)]


def test_old_and_new_need_room_at_once(served: World) -> None:
    spec = DeploymentSpec(model="m", version=1, resources=Resources(gpus=1))
    served.deploy(spec)
    served.deploy(replace(spec, version=2))
    served.serve("e")
    assert served.assigned("e") == [("m", 1)]
    wish = wish_of(served.state.deployments["d"], served.state.models["m"])
    assert placement.reasons(wish, Rooms(served.state)["e"]) == (
        "needs 1 GPU and none is free (m 1 holds 1); version 1 stays until version 2 is warm, so "
        "both need room at once",
    )


def test_withdrawn_permission_to_run_code_unloads_at_once() -> None:
    world = World()
    world.cluster("c")
    world.push("m", runtime=Runtime.PYTHON)
    world.deploy(DeploymentSpec(model="m"))
    world.serve("c")
    world.do(ClusterApplied(actor=ACTOR, name="c", spec=ClusterSpec(region="eu")))
    assert world.assigned("c") == []


def test_a_version_that_may_not_run_here_leaves_the_old_one_until_it_is_warm_elsewhere() -> None:
    world = World()
    world.cluster("a", spec=ClusterSpec(region="eu"))
    world.cluster("b")
    world.push("m", "1")
    world.deploy(DeploymentSpec(model="m"))
    world.serve("a")
    world.serve("b")
    world.push("m", "2", Runtime.PYTHON)
    assert world.assigned("a") == [("m", 1)]
    world.serve("b")
    assert world.assigned("b") == [("m", 2)]
    assert world.assigned("a") == []


def test_reasons_are_given_for_selected_clusters() -> None:
    world = World()
    world.cluster("c", spec=ClusterSpec(region="eu"))
    world.push("m", runtime=Runtime.PYTHON)
    world.deploy(DeploymentSpec(model="m"))
    wish = wish_of(world.state.deployments["d"], world.state.models["m"])
    (reason,) = placement.reasons(wish, Rooms(world.state)["c"])
    assert "set allow_code" in reason


GIB = 1 << 30


def test_a_version_that_the_disk_cannot_hold_is_not_given() -> None:
    world = World()
    world.cluster("c")
    world.push("m", size=12 * GIB)
    world.disks["c"] = Disk(used_bytes=4 * GIB, free_bytes=6 * GIB)
    world.report("c")
    found = verdict(world, "c", DeploymentSpec(model="m"))
    assert found.fit is Fit.KEEPS
    assert found.reason == ("version 1 needs 12 GiB of disk and packages may take 10 GiB there")


@pytest.mark.parametrize(
    ("budget_gib", "disk", "fits"),
    [
        (0, Disk(), True),  # nobody knows
        (12, Disk(), True),
        (11, Disk(), False),
        (12, Disk(free_bytes=11 * GIB), False),
        (12, Disk(free_bytes=100 * GIB, budget_bytes=5 * GIB), False),
        (0, Disk(used_bytes=11 * GIB, free_bytes=GIB), True),  # the rest can make room
    ],
)
def test_the_tightest_bound_counts(budget_gib: float, disk: Disk, *, fits: bool) -> None:
    world = World()
    sync = SyncSpec(disk_budget_gib=budget_gib)
    world.region("eu")
    world.cluster("c", spec=ClusterSpec(region="eu", sync=sync))
    world.push("m", size=12 * GIB)
    world.report("c", disk=disk)
    assert (verdict(world, "c", DeploymentSpec(model="m")).fit is Fit.FITS) is fits


def test_what_is_there_already_needs_no_room() -> None:
    world = World()
    world.cluster("c")
    world.push("m", size=12 * GIB)
    world.deploy(DeploymentSpec(model="m"))
    cached = world.seen("c", VersionState.CACHED)
    world.remove("Deployment", "d")
    world.disks["c"] = Disk(free_bytes=GIB)
    world.report("c", cached)
    assert verdict(world, "c", DeploymentSpec(model="m")).fit is Fit.FITS
    world.report("c")
    assert verdict(world, "c", DeploymentSpec(model="m")).fit is Fit.KEEPS


# ------------------------------------------------------------ urgency


def test_the_way_back_is_urgent_and_the_way_forth_is_not(served: World) -> None:
    assert served.urgency("e", 1) is Urgency.NORMAL
    served.deploy(DeploymentSpec(model="m", version=2))
    assert served.urgency("e", 2) is Urgency.NORMAL
    served.serve("e")
    served.deploy(DeploymentSpec(model="m", version=1))
    assert served.urgency("e", 1) is Urgency.ROLLBACK
    assert served.urgency("u", 1) is Urgency.ROLLBACK, "it had not left it yet"
    told = [r.message for r in served.state.audit.values() if r.reason == "RollbackStarted"]
    assert told == ["deployment 'd' goes back to version 1 of model 'm' (before: 2)."]


def test_the_way_back_to_a_newer_version_that_served_before_is_urgent(served: World) -> None:
    served.deploy(DeploymentSpec(model="m", version=2))
    for version in (2, 1):
        served.deploy(DeploymentSpec(model="m", version=version))
        served.serve("e")
        served.serve("u")
    served.push("m", "3")
    served.deploy(DeploymentSpec(model="m", version=3))
    assert served.urgency("e", 3) is Urgency.NORMAL
    served.deploy(DeploymentSpec(model="m", version=1))
    served.serve("e")
    served.serve("u")
    served.deploy(DeploymentSpec(model="m", version=2))
    assert served.urgency("e", 2) is Urgency.ROLLBACK


def test_an_alias_that_moves_back_is_a_rollback(served: World) -> None:
    def champion(version: int) -> None:
        served.do(AliasMoved(actor=ACTOR, model="m", alias="champion", version=version))

    champion(2)
    served.deploy(DeploymentSpec(model="m", version="champion"))
    served.serve("e")
    champion(1)
    assert served.urgency("e", 1) is Urgency.ROLLBACK


def test_urgency_alone_makes_no_new_assignment(served: World) -> None:
    served.deploy(DeploymentSpec(model="m", version=2))
    served.serve("e")
    served.deploy(DeploymentSpec(model="m", version=1))
    served.serve("e")
    generation = served.state.clusters["e"].assignment.generation
    served.serve("u")
    served.serve("e")
    assert served.state.clusters["e"].assignment.generation == generation
    assert served.urgency("e", 1) is Urgency.ROLLBACK


def test_a_cluster_that_has_nothing_of_the_model_is_in_no_hurry(served: World) -> None:
    served.deploy(DeploymentSpec(model="m", version=2))
    served.deploy(DeploymentSpec(model="m", version=1))
    served.cluster("new")
    assert served.urgency("new", 1) is Urgency.NORMAL
