"""Deployments that nobody uses: from silence to no replica, from demand back."""

from dataclasses import replace

import pytest

from federation.contract.capacity import Resources
from federation.contract.errors import Invalid
from federation.contract.resources import DeploymentSpec, PrefetchSpec
from federation.contract.scaling import Scaling, ScalingMode
from federation.contract.types import AssignedVersion, Scheduling, VersionState
from federation.policy.deployment_view import deployment_status
from federation.policy.events import DeploymentApplied, RouterReported
from federation.policy.settle import settle
from federation.policy.state import Step
from tests.federation.policy.world import World

SLEEPY = Scaling(mode=ScalingMode.AUTO, min=0, max=4, down_s=60.0)


def spec(**changes: object) -> DeploymentSpec:
    made = DeploymentSpec(model="m", scaling=SLEEPY, resources=Resources(gpus=1))
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    made = World()
    for name, region in (("a", "eu"), ("b", "us")):
        made.cluster(name, region, gpus=2)
    made.push("m")
    made.router()
    made.deploy(spec())
    serve(made)
    return made


def serve(world: World, *names: str) -> None:
    for name in names or world.state.clusters:
        world.serve(name)


def pass_time(world: World, seconds: float, *, busy: str = "", only: tuple[str, ...] = ()) -> None:
    """Agents report and time passes; requests are in flight at cluster `busy`."""
    for _ in range(int(seconds / 5)):
        for name in only or world.state.clusters:
            flying = 1 if name == busy else 0
            world.report(name, [replace(v, in_flight=flying) for v in world.seen(name)])
        world.advance(5)


def demand(world: World, model: str = "m", *, router: str = "r", count: int = 3) -> None:
    world.do(
        RouterReported(
            name=router,
            instance="i1",
            requests_total=0,
            errors_total=0,
            held={model: count} if count else {},
        )
    )


def given(world: World, cluster: str) -> list[AssignedVersion]:
    return list(world.state.clusters[cluster].assignment.versions)


def test_it_sleeps_when_nobody_used_it_anywhere_for_long_enough(world: World) -> None:
    pass_time(world, 55)
    assert not world.state.deployments["d"].asleep
    pass_time(world, 15)
    assert world.state.deployments["d"].asleep
    assert world.told()[-1] != "DeploymentWoken"
    assert "DeploymentAsleep" in world.told()
    for name in ("a", "b"):
        (version,) = given(world, name)
        assert version.asleep
        assert version.stage_only
    (route,) = world.snapshot().models
    assert (route.default_version, route.dormant) == (1, (1,))
    assert world.snapshot().replicas == ()


def test_load_at_one_cluster_keeps_it_awake_at_all(world: World) -> None:
    pass_time(world, 120, busy="b")
    assert not world.state.deployments["d"].asleep
    assert [r.dormant for r in world.snapshot().models] == [()]
    pass_time(world, 70)
    assert world.state.deployments["d"].asleep


def test_a_request_in_between_begins_the_time_anew(world: World) -> None:
    pass_time(world, 50)
    pass_time(world, 5, busy="a")
    pass_time(world, 50)
    assert not world.state.deployments["d"].asleep


def test_demand_wakes_it_once_and_routers_hear_of_it_when_it_is_warm(world: World) -> None:
    pass_time(world, 70)
    serve(world)
    demand(world)
    assert not world.state.deployments["d"].asleep
    assert [v.replicas for name in ("a", "b") for v in given(world, name)] == [1, 1]
    generations = [c.assignment.generation for c in world.state.clusters.values()]
    world.router("r2")
    demand(world, router="r2")
    demand(world)
    assert world.told().count("DeploymentWoken") == 1
    assert world.state.wakes == {"d": 1}
    assert [c.assignment.generation for c in world.state.clusters.values()] == generations
    assert world.snapshot().models[0].dormant == (1,)  # it is still being loaded
    serve(world, "a")
    assert world.snapshot().models[0].dormant == ()
    assert [r.cluster for r in world.snapshot().replicas] == ["a"]


@pytest.mark.parametrize("state", [VersionState.LOADED, VersionState.FAILED])
def test_the_default_is_waited_for_though_a_pinned_version_is_awake_before_it(
    world: World, state: VersionState
) -> None:
    world.push("m", "2")
    world.deploy(spec(version=2, pinned_versions=(1,)))
    serve(world)
    pass_time(world, 70)
    serve(world)
    demand(world)
    for name in world.state.clusters:
        seen = [replace(v, state=state) if v.version == 2 else v for v in world.seen(name)]
        world.report(name, seen)
    (route,) = world.snapshot().models
    assert {r.version for r in world.snapshot().replicas} == {1}
    assert route.dormant == (2,)  # who names it waits as well
    assert route.default_version == (1 if state is VersionState.FAILED else 2)
    serve(world)
    (route,) = world.snapshot().models
    assert (route.default_version, route.dormant) == (2, ())


def test_what_waits_at_a_router_keeps_it_awake(world: World) -> None:
    demand(world)
    pass_time(world, 120)
    assert not world.state.deployments["d"].asleep
    demand(world, count=0)
    pass_time(world, 70)
    assert world.state.deployments["d"].asleep


def test_demand_for_what_is_awake_or_unknown_changes_nothing(world: World) -> None:
    before = world.state.deployments["d"]
    demand(world)
    demand(world, "unknown")
    assert world.state.deployments["d"] == before


def test_it_sleeps_on_through_a_restart_and_wakes_after_it(world: World) -> None:
    pass_time(world, 70)
    serve(world)
    world.restart()
    for name in world.state.clusters:
        world.connect(name)
    serve(world)
    assert all(v.asleep for name in ("a", "b") for v in given(world, name))
    world.router()
    demand(world)
    assert [v.replicas for v in given(world, "a")] == [1]


def test_where_nothing_is_known_it_stays_awake(world: World) -> None:
    pass_time(world, 55)
    world.restart()
    pass_time_silently = 90
    world.advance(pass_time_silently)
    assert not world.state.deployments["d"].asleep


def test_a_lost_cluster_does_not_keep_it_awake(world: World) -> None:
    world.disconnect("b")
    pass_time(world, 90, only=("a",))
    assert world.state.deployments["d"].asleep


def test_while_something_is_being_loaded_it_does_not_sleep(world: World) -> None:
    world.push("m", "2")
    world.deploy(spec(version=2))
    for _ in range(20):
        for name in world.state.clusters:
            loading = world.seen(name, VersionState.LOADED, only=2)
            world.report(name, [*world.seen(name, only=1), *loading])
        world.advance(5)
    assert not world.state.deployments["d"].asleep
    assert ("m", 1) in world.assigned("a")


def test_a_change_wakes_it_so_that_it_is_proven(world: World) -> None:
    pass_time(world, 70)
    serve(world)
    world.push("m", "2")
    world.deploy(spec(version=2))
    assert [(v.version, v.replicas) for v in given(world, "a")] == [(2, 1)]
    serve(world)
    assert world.state.deployments["d"].routed_version == 2
    pass_time(world, 70)
    assert world.staged("a") == [("m", 2)]


def test_a_higher_minimum_wakes_it(world: World) -> None:
    pass_time(world, 70)
    world.deploy(spec(scaling=replace(SLEEPY, min=1)))
    assert [v.replicas for v in given(world, "a")] == [1]
    assert world.snapshot().models[0].dormant == ()


def test_its_gpus_are_free_for_others_and_it_wakes_where_there_is_room(world: World) -> None:
    world.deploy(spec(clusters=1, resources=Resources(gpus=2)))
    serve(world)
    pass_time(world, 70)
    (home,) = [n for n in ("a", "b") if world.assigned(n)]
    assert world.staged(home) == [("m", 1)]
    serve(world)
    world.push("other")
    region = world.state.clusters[home].spec.region
    other = DeploymentSpec(model="other", regions=(region,), resources=Resources(gpus=1))
    world.deploy(other, "o")
    serve(world)
    assert ("other", 1) in world.assigned(home)
    assert world.staged(home) == [("m", 1)]  # it stays where its bytes are, as long as it sleeps
    demand(world)
    away = "b" if home == "a" else "a"
    assert [(v.model, v.replicas) for v in given(world, away)] == [("m", 1)]


def test_it_wakes_where_its_bytes_are(world: World) -> None:
    world.deploy(spec(clusters=1))
    serve(world)
    pass_time(world, 70)
    (home,) = [n for n in ("a", "b") if world.staged(n)]
    serve(world)
    world.cluster("aa", "eu", gpus=80)  # a better place, by its room
    demand(world)
    assert [(v.model, v.replicas) for v in given(world, home)] == [("m", 1)]


def test_where_it_waits_for_room_its_bytes_stay(world: World) -> None:
    world.deploy(spec(resources=Resources(gpus=2)))
    serve(world)
    pass_time(world, 70)
    serve(world)
    world.push("other")
    world.deploy(DeploymentSpec(model="other", resources=Resources(gpus=1)), "o")
    demand(world)
    assert world.staged("a") == [("m", 1)]
    status = deployment_status(world.state, world.state.deployments["d"], world.now)
    assert "needs 2 GPUs" in str(status["cannot"])
    assert status["ready"] is False
    world.remove("Deployment", "o")
    assert [(v.model, v.replicas) for v in given(world, "a")] == [("m", 1)]


def test_a_draining_cluster_keeps_what_it_has_loaded(world: World) -> None:
    world.schedule("a", Scheduling.DRAINING)
    serve(world)
    pass_time(world, 90)
    assert world.state.deployments["d"].asleep
    assert [v.stage_only for v in given(world, "a")] == [False]
    assert [v.stage_only for v in given(world, "b")] == [True]


def test_a_prefetch_of_the_same_version_makes_no_difference(world: World) -> None:
    world.prefetch(PrefetchSpec(model="m", version=1))
    pass_time(world, 70)
    assert [v.asleep for v in given(world, "a")] == [True]
    demand(world)
    assert [v.stage_only for v in given(world, "a")] == [False]


def test_what_sleeps_is_shown_with_its_reason(world: World) -> None:
    status = deployment_status(world.state, world.state.deployments["d"], world.now)
    assert status["asleep_since"] is None
    pass_time(world, 70)
    serve(world)
    status = deployment_status(world.state, world.state.deployments["d"], world.now)
    assert status["ready"] is True
    assert status["asleep_since"] is not None
    assert "nobody used it" in str(status["reason"])
    (first, _) = status["clusters"]
    (version,) = first["versions"]
    assert (version["state"], version["given"]) == ("verified", 0)
    demand(world)
    status = deployment_status(world.state, world.state.deployments["d"], world.now)
    assert (status["asleep_since"], status["ready"]) == (None, False)


def test_settling_what_sleeps_changes_nothing(world: World) -> None:
    pass_time(world, 70)
    serve(world)
    step = Step(world.state, world.now, "test")
    settle(step)
    assert [type(c).__name__ for c in step.commands] == ["PublishSnapshot"]


@pytest.mark.parametrize(
    ("scaling", "words"),
    [
        (Scaling(mode=ScalingMode.ENGINE, min=0, max=2), "needs mode auto"),
        (Scaling(mode=ScalingMode.FIXED, min=0, max=2), "needs mode auto"),
        (Scaling(mode=ScalingMode.AUTO, min=0, max=0), "max 1 to"),
        (Scaling(mode=ScalingMode.AUTO, min=-1, max=2), "min must be 0"),
    ],
)
def test_only_the_control_plane_can_let_it_sleep(scaling: Scaling, words: str) -> None:
    world = World()
    world.push("m")
    with pytest.raises(Invalid, match=words):
        world.do(DeploymentApplied(actor="ada", name="d", spec=spec(scaling=scaling)))
