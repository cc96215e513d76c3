import time
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import placement as benchmark
from federation.contract.capacity import Resources
from federation.contract.resources import DeploymentSpec
from federation.contract.types import EngineKind, Scheduling
from federation.policy.events import Assign, PublishSnapshot
from federation.policy.rollouts.records import Phase
from federation.policy.rooms import Rooms
from federation.policy.settle import settle, wishes_of
from federation.policy.state import State, Step
from tests.depth import examples
from tests.federation.policy.rollouts.rollout_world import PLAIN, WAVES, RolloutWorld
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


# ------------------------------------------------------------ one room for all models

ONE = Resources(gpus=1)


def test_two_models_are_not_given_the_same_gpu() -> None:
    world = World()
    world.cluster("c", gpus=1)
    for model in ("m", "n"):
        world.push(model)
        world.deploy(DeploymentSpec(model=model, resources=ONE), model)
    assert world.assigned("c") == [("m", 1)]


def test_what_one_leaves_another_gets_at_once() -> None:
    world = World()
    world.cluster("c", gpus=1)
    for model in ("m", "n", "o"):
        world.push(model)
        world.deploy(DeploymentSpec(model=model, resources=ONE), model)
    world.remove("Deployment", "m")
    assert world.assigned("c") == [("n", 1)]
    world.deploy(DeploymentSpec(model="n"), "n")
    assert world.assigned("c") == [("n", 1), ("o", 1)], "n needs no GPU any more"


def test_a_pinned_version_does_not_take_the_room_of_the_target() -> None:
    world = World()
    world.cluster("c", gpus=1)
    for content in ("1", "2"):
        world.push("m", content)
    world.deploy(DeploymentSpec(model="m", version=2, pinned_versions=(1,), resources=ONE))
    assert world.assigned("c") == [("m", 2)]


def test_what_waits_for_its_predecessor_waits_while_another_cluster_gets_room() -> None:
    """It is looked at twice then, and has told nothing: it is out of contact."""
    world = RolloutWorld()
    for name, region in (("a", "eu"), ("b", "eu"), ("c", "us")):
        world.cluster(name, region, gpus=1)
    for content in "12":
        world.push("m", content)
    world.deploy(DeploymentSpec(model="m", version=1, resources=ONE))
    world.router()
    world.serve_all()
    world.silence("a")
    world.start(strategy=replace(PLAIN, waves=WAVES[:2], in_place=True))
    world.until(Phase.STAGING, wave=1)
    (there,) = world.state.clusters["a"].assignment.versions
    assert (there.version, there.stage_only) == (2, True)
    world.until(Phase.PROMOTED)
    world.connect("a")
    held = world.state.clusters["a"].assignment.versions
    assert [(v.version, v.stage_only) for v in held] == [(2, True)], "its engine has version 1"


needs = st.builds(
    Resources, gpus=st.integers(0, 3), memory_mib=st.sampled_from([0, 16_000, 80_000])
)
specs = st.builds(
    DeploymentSpec,
    model=st.just(""),
    clusters=st.integers(0, 3),
    replicas=st.integers(1, 2),
    spread=st.booleans(),
    resources=needs,
)
fleets = st.lists(st.integers(0, 6), min_size=1, max_size=4)


def placed(gpus: list[int], wanted: list[DeploymentSpec]) -> World:
    world = World()
    for number, count in enumerate(gpus):
        world.cluster(f"c{number}", f"r{number % 2}", gpus=count)
    for number, spec in enumerate(wanted):
        world.push(f"m{number}")
        world.deploy(replace(spec, model=f"m{number}"), f"d{number}")
    return world


def places(state: State) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {model: [] for model in state.models}
    for name, record in sorted(state.clusters.items()):
        for version in record.assignment.versions:
            found[version.model].append(name)
    return found


@settings(max_examples=examples(20), deadline=None)
@given(fleets, st.lists(specs, min_size=1, max_size=4))
def test_nothing_is_placed_twice_and_no_gpu_is_given_out_twice(
    gpus: list[int], wanted: list[DeploymentSpec]
) -> None:
    world = placed(gpus, wanted)
    for room in Rooms(world.state):
        assert room.overcommitted() == ""
        assert max(Counter(v.model for v in room.versions()).values(), default=1) == 1
        assert sum(v.needs.gpus * v.replicas for v in room.versions()) <= len(
            room.record.last.capacity.devices if room.record.last else ()
        )
    for number, spec in enumerate(wanted):
        if spec.clusters:
            assert len(places(world.state)[f"m{number}"]) <= spec.clusters
    assert world.state == placed(gpus, wanted).state
    step = Step(world.state.copy(), world.now, "test")
    settle(step)
    assert step.commands == [PublishSnapshot()]


@settings(max_examples=examples(25), deadline=None)
@given(fleets, specs, st.integers(0, 3), st.integers(1, 4))
def test_more_capacity_never_makes_a_deployment_unplaceable(
    gpus: list[int], wanted: DeploymentSpec, which: int, more: int
) -> None:
    before = len(places(placed(gpus, [wanted]).state)["m0"])
    grown = [*gpus, more] if which >= len(gpus) else list(gpus)
    if which < len(gpus):
        grown[which] += more
    assert len(places(placed(grown, [wanted]).state)["m0"]) >= before


@settings(max_examples=examples(25), deadline=None)
@given(fleets, st.lists(specs, min_size=1, max_size=3), st.integers(0, 3), st.integers(-4, 4))
def test_a_change_of_capacity_moves_nothing(
    gpus: list[int], wanted: list[DeploymentSpec], which: int, change: int
) -> None:
    world = placed(gpus, wanted)
    before = places(world.state)
    name = f"c{which % len(gpus)}"
    world.gpus[name] = max(world.gpus[name] + change, 0)
    world.report(name)
    after = places(world.state)
    assert all(set(before[model]) <= set(after[model]) for model in before)


names = st.sampled_from(["c0", "c1", "c2"])
events = st.one_of(
    st.tuples(
        st.just("deploy"), st.integers(0, 2), specs, st.booleans(), st.sampled_from([0, 1, 2])
    ),
    st.tuples(st.just("remove"), st.integers(0, 2)),
    st.tuples(st.just("serve"), names),
    st.tuples(st.just("gpus"), names, st.integers(0, 6)),
    st.tuples(st.just("schedule"), names, st.sampled_from(list(Scheduling)[:3])),
    st.tuples(st.just("silence"), st.integers(1, 30)),
)


def happen(world: World, kind: str, told: list[Any]) -> None:
    if kind == "deploy":
        number, spec, apart, version = told
        other = (f"m{(number + 1) % 3}",) if apart else ()
        spec = replace(spec, model=f"m{number}", anti_affinity=other, version=version)
        world.deploy(spec, f"d{number}")
    elif kind == "remove" and f"d{told[0]}" in world.state.deployments:
        world.remove("Deployment", f"d{told[0]}")
    elif kind == "serve":
        if not world.state.presences[told[0]].present:
            world.connect(told[0])
        world.report(told[0], world.seen(told[0]))
    elif kind == "gpus":
        world.gpus[told[0]] = told[1]
        world.report(told[0], world.seen(told[0]))
    elif kind == "schedule":
        world.schedule(*told)
    elif kind == "silence":
        world.advance(told[0])


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(events, min_size=5, max_size=25))
def test_each_event_settles_all_that_follows_from_it(story: list[tuple[Any, ...]]) -> None:
    """Only the models that an event touches are looked at, and those that wait for room: yet
    looking at all of them again changes nothing."""
    world = World()
    for number in range(3):
        world.cluster(f"c{number}", f"r{number % 2}", gpus=3)
        for content in ("1", "2"):
            world.push(f"m{number}", content)
    for kind, *told in story:
        happen(world, kind, told)
        step = Step(world.state.copy(), world.now, "test")
        settle(step)
        assert step.commands == [PublishSnapshot()], (kind, told)


def test_five_hundred_deployments_on_two_hundred_clusters_take_a_moment() -> None:
    """The aim is 200 ms; see `python -m benchmarks.placement` for what it is. Slow machines and
    busy ones get ten times as long."""
    for everywhere in (False, True):
        state = benchmark.fleet(everywhere=everywhere)
        started_s = time.process_time()
        settle(Step(state, benchmark.NOW, "test"))
        assert time.process_time() - started_s < 2.0
        assert sum(len(c.assignment.versions) for c in state.clusters.values()) > 1_000
