"""What a plan says is what then happens."""

from dataclasses import replace

from federation.contract.capacity import Pool, Resources
from federation.contract.resources import ClusterSpec, DeploymentSpec
from federation.contract.scaling import Scaling, ScalingMode
from federation.contract.sync import SyncProgress, SyncSpec
from federation.contract.types import Runtime, Scheduling, VersionState
from federation.policy.decide import decide
from federation.policy.events import DeploymentApplied
from federation.policy.plan import Plan, PlanRow, plan_of
from federation.policy.settle import settle
from federation.policy.state import Step
from tests.federation.policy.world import ACTOR, World

ONE = Resources(gpus=1)


def plan(world: World, spec: DeploymentSpec, name: str = "d") -> Plan:
    """Plan it; then do it, and see that it was told."""
    after = world.state.copy()
    decide(after, DeploymentApplied(actor=ACTOR, name=name, spec=spec), world.now)
    told = plan_of(world.state, after, name)
    before = {n: world.assigned(n) for n in world.state.clusters}
    world.deploy(spec, name)
    for cluster in world.state.clusters:
        now = {number for model, number in world.assigned(cluster) if model == spec.model}
        old = {number for model, number in before[cluster] if model == spec.model}
        assert {row.version for row in told.place if row.cluster == cluster} == now - old
        kept = {r.version for r in (*told.keep, *told.stop) if r.cluster == cluster}
        assert kept == old
    return told


def fleet() -> World:
    world = World()
    world.cluster("a", "eu", gpus=2)
    world.cluster("b", "us", gpus=1)
    world.push("m", "1", size=100)
    world.push("n")
    return world


def rows(listed: tuple[PlanRow, ...]) -> list[tuple[str, int, str]]:
    return [(row.cluster, row.version, row.reason) for row in listed]


def test_a_new_deployment_is_placed_where_it_can_be() -> None:
    told = plan(fleet(), DeploymentSpec(model="m", resources=Resources(gpus=2), replicas=1))
    assert told.place == (PlanRow(cluster="a", region="eu", version=1, replicas=1),)
    assert [each.cluster for each in told.cannot] == ["b"]
    assert (told.deployment, told.model, told.version) == ("d", "m", 1)
    assert (told.keep, told.stop, told.others, told.notes) == ((), (), (), ())


def test_a_new_version_says_when_the_old_one_goes() -> None:
    world = fleet()
    world.deploy(DeploymentSpec(model="m", resources=ONE))
    world.serve("a")
    world.serve("b")
    world.push("m", "2")
    told = plan(world, DeploymentSpec(model="m", version=2, resources=ONE))
    # Pushing it placed it already: the deployment wants the newest.
    assert rows(told.keep) == [("a", 2, "")]
    assert rows(told.stop) == [
        ("a", 1, "when version 2 is warm there"),
        ("b", 1, "when version 2 is warm there"),
    ]
    assert "both need room at once" in told.cannot[0].reason


def test_what_may_sleep_and_what_sleeps_is_noted() -> None:
    world = fleet()
    spec = DeploymentSpec(model="m", scaling=Scaling(mode=ScalingMode.AUTO, min=0, down_s=30))
    told = plan(world, spec)
    assert [(row.cluster, row.replicas) for row in told.place] == [("a", 1), ("b", 1)]
    assert told.notes == ("when nobody used it for 30 s it has no replica, until a request comes",)
    record = world.state.deployments["d"]
    world.state.deployments["d"] = replace(record, asleep_since=world.now)
    settle(Step(world.state, world.now, "test"))
    told = plan_of(world.state, world.state.copy(), "d")
    assert (told.place, told.keep, told.stop) == ((), (), ())
    assert told.notes == ("it sleeps: its package lies ready (a, b), a request loads it",)


def test_kubernetes_gives_whole_units_and_that_is_noted() -> None:
    world = fleet()
    record = world.state.clusters["a"]
    assert record.last is not None
    pool = Pool(
        node="n", resource="nvidia.com/gpu", vendor="nvidia", free=2, total=2, allocatable=2
    )
    capacity = replace(record.last.capacity, pools=(pool,))
    world.state.clusters["a"] = replace(record, last=replace(record.last, capacity=capacity))
    told = plan(world, DeploymentSpec(model="m", resources=Resources(gpus=1, fraction=0.5)))
    assert told.notes == ("Kubernetes shares no GPU: each replica gets a whole unit there (a)",)


def test_a_region_that_is_left_goes_when_another_has_it() -> None:
    world = fleet()
    world.deploy(DeploymentSpec(model="m", replicas=1))
    world.serve("a")
    told = plan(world, DeploymentSpec(model="m", regions=("us",), replicas=3))
    assert rows(told.stop) == [("a", 1, "when version 1 is warm at another cluster")]
    assert rows(told.keep) == [("b", 1, "replicas: 1, then 3")]
    world.schedule("a", Scheduling.DRAINING)
    told = plan(world, DeploymentSpec(model="m", regions=("us",)))
    assert rows(told.stop) == [
        ("a", 1, "after the cluster is no longer draining: what it has loaded stays loaded")
    ]


def test_what_others_get_by_it_is_told() -> None:
    world = fleet()
    world.deploy(DeploymentSpec(model="m", resources=Resources(gpus=2)))
    world.deploy(DeploymentSpec(model="n", regions=("eu",), resources=ONE), "other")
    assert ("n", 1) not in world.assigned("a")
    told = plan(world, DeploymentSpec(model="m"))
    assert told.others == ("n 1 gets a place at a",)


def test_too_few_clusters_are_told() -> None:
    told = plan(fleet(), DeploymentSpec(model="m", clusters=3))
    assert told.notes == ("3 clusters are asked for, 2 can",)
    told = plan(fleet(), DeploymentSpec(model="m", cluster_labels={"tier": "gold"}))
    assert told.notes == ("no cluster matches",)


def test_what_has_to_travel_is_told() -> None:
    world = fleet()
    world.region("ap")
    world.cluster("c", "ap", spec=ClusterSpec(region="ap", sync=SyncSpec(max_mbytes_per_second=2)))
    world.cluster("e", "eu")
    world.deploy(DeploymentSpec(model="m", regions=("eu",)))
    seen = [replace(v, state=VersionState.CACHED) for v in world.seen("a")]
    world.report("a", seen)
    world.remove("Deployment", "d")
    world.deploy(DeploymentSpec(model="n", regions=("us",)), "other")
    fetching = [replace(v, sync=SyncProgress(bytes_per_second=5e6)) for v in world.seen("b")]
    world.report("b", fetching)
    told = {t.cluster: t for t in plan(world, DeploymentSpec(model="m")).transfers}
    assert (told["a"].there, told["a"].size, told["a"].held) == (True, 100, ())
    assert (told["e"].there, told["e"].near, told["b"].near) == (False, True, False)
    assert (told["b"].bytes_per_second, told["b"].capped) == (5e6, False)
    assert (told["c"].bytes_per_second, told["c"].capped) == (2e6, True)
    assert (told["e"].bytes_per_second, told["e"].capped) == (0, False)


def test_older_versions_make_the_way_shorter() -> None:
    world = fleet()
    world.deploy(DeploymentSpec(model="m", version=1))
    world.serve("a")
    world.push("m", "2")
    told = plan(world, DeploymentSpec(model="m", version=2))
    assert {t.cluster: (t.digest, t.held) for t in told.transfers} == {
        "a": ("m:2", ("m:1",)),
        "b": ("m:2", ()),
    }


def test_what_may_not_be_there_stops_at_once() -> None:
    world = World()
    world.cluster("a", spec=ClusterSpec(region="eu"))
    world.push("m", "1")
    world.push("m", "2", Runtime.PYTHON)
    world.deploy(DeploymentSpec(model="m", version=1))
    told = plan(world, DeploymentSpec(model="m", version=2))
    assert rows(told.stop) == [("a", 1, "when version 2 is warm at another cluster")]
    assert "carries code" in told.cannot[0].reason
