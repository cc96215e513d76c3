"""Versions that shall only lie ready, and urgency: the reconciler's steps that need no job."""

import pytest

from edge_agent.policy.events import EngineLost, Hasten, Task
from edge_agent.policy.lifecycle import Record, Step
from edge_agent.policy.schedule import EngineView
from edge_agent.policy.steps import View
from federation.contract.types import AssignedVersion, Urgency, VersionState
from tests.edge_agent.policy.reconcile_world import World, warm_world

S = VersionState
A1, A2, B1 = ("a", 1), ("a", 2), ("b", 1)


@pytest.fixture
def world() -> World:
    return World()


def test_it_stops_at_verified_whatever_the_engine_is(world: World) -> None:
    world.assign(stage=[A1])
    world.finish(world.take(Task.STAGE))
    assert world.take(Task.VERIFY), "nobody asked the engine yet, and nobody needs to"
    world.finish(world.take(Task.VERIFY))
    world.send(EngineLost(reason="no answer"))
    world.ask()
    assert (world.state(*A1), world.jobs, world.engine) == (S.VERIFIED, {}, {})


def test_it_is_loaded_as_soon_as_it_shall_be(world: World) -> None:
    world.ask()
    world.assign(stage=[A1])
    world.run()
    world.assign(A1)
    assert world.take(Task.LOAD)
    world.run()
    assert world.state(*A1) is S.WARMED
    assert [told.split()[0] for told in world.told] == ["stage", "verify", "load", "warm-up"]


def test_a_loaded_one_is_drained_before_it_only_lies_ready() -> None:
    world = warm_world(A1)
    world.assign(stage=[A1])
    assert world.state(*A1) is S.DRAINING
    world.finish(world.take(Task.DRAIN))
    world.finish(world.take(Task.UNLOAD))
    assert world.engine == {}
    world.finish(world.take(Task.STAGE))
    assert (world.state(*A1), world.jobs) == (S.VERIFIED, {})
    assert [told.split()[0] for told in world.told] == ["drain", "unload", "stage"]


def test_it_keeps_serving_until_its_successor_does() -> None:
    world = warm_world(A1)
    world.assign(A2, stage=[A1])
    while world.state(*A2) is not S.WARMED:
        assert world.state(*A1) is S.WARMED
        world.finish(min(world.jobs))
        world.ask()
    assert world.state(*A1) is S.DRAINING
    world.run()
    assert set(world.engine) == {A2}
    assert world.state(*A1) is S.VERIFIED


def test_what_only_lies_ready_succeeds_nobody() -> None:
    world = warm_world(A1)
    world.assign(stage=[A2])
    assert world.state(*A1) is S.DRAINING
    world.run()
    assert (world.engine, world.state(*A1), world.state(*A2)) == ({}, S.CACHED, S.VERIFIED)


def test_wanted_again_while_it_drains_it_stays_loaded() -> None:
    world = warm_world(A1)
    world.assign(stage=[A1])
    world.assign(A1)
    world.run()
    assert world.state(*A1) is S.WARMED
    assert "unload a@1" not in world.told


def test_somebody_else_loaded_it_and_it_is_unloaded(world: World) -> None:
    world.engine[A1] = "other"
    world.ask()
    world.assign(stage=[A1])
    world.run()
    assert (world.engine, world.state(*A1)) == ({}, S.VERIFIED)


def test_after_a_restart_of_the_agent_what_is_still_loaded_is_unloaded() -> None:
    world = warm_world(A1)
    again = World()
    again.engine = dict(world.engine)
    again.assign(stage=[A1])
    again.finish(again.take(Task.STAGE))
    again.finish(again.take(Task.VERIFY))
    again.run()
    assert (again.engine, again.state(*A1)) == ({}, S.VERIFIED)


def test_a_failed_transfer_is_tried_again(world: World) -> None:
    world.ask()
    world.assign(stage=[A1])
    world.fail(world.take(Task.STAGE))
    assert world.state(*A1) is S.FAILED
    world.run()
    assert world.state(*A1) is S.VERIFIED


# ------------------------------------------------------------ urgency


def test_the_urgent_ones_start_first(world: World) -> None:
    world.assign(B1, stage=[A1])
    assert [told for told in world.told if told.startswith("stage")] == ["stage b@1", "stage a@1"]


def test_a_transfer_that_runs_is_hastened_and_not_begun_anew(world: World) -> None:
    world.assign(stage=[A1])
    job = world.take(Task.STAGE)
    assert world.jobs[job].urgency is Urgency.PREFETCH
    commands = world.assign(A1, urgency=Urgency.ROLLBACK)
    assert Hasten(job=job, urgency=Urgency.ROLLBACK) in commands
    assert list(world.jobs) == [job]
    assert not any(isinstance(c, Hasten) for c in world.assign(stage=[A1])), "never slowed down"
    assert list(world.jobs) == [job]


def test_a_transfer_that_waits_keeps_nobody_back(world: World) -> None:
    """Those of a closed window would fill every lane of ordinary width."""
    world.ask()
    world.assign(*((f"m{n}", 1) for n in range(12)))
    world.finish(next(i for i, job in world.jobs.items() if job.model == "m11"))
    assert world.take(Task.VERIFY)


# ------------------------------------------------------------ the view itself


def view(record: Record | None, wanted: AssignedVersion | None) -> View:
    return View(
        {A1: record} if record else {}, {A1: wanted} if wanted else {}, {}, EngineView.UP, 0.0
    )


@pytest.mark.parametrize(
    ("state", "at_engine", "step"),
    [
        (S.PENDING, None, None),
        (S.PENDING, "d", Step.RETIRED),
        (S.STAGED, None, None),
        (S.STAGED, "d", Step.RETIRED),
        (S.VERIFIED, None, None),
        (S.VERIFIED, "d", Step.RETIRED),
        (S.LOADED, "d", Step.RETIRED),
        (S.WARMED, "d", Step.RETIRED),
        (S.DRAINING, "d", None),
        (S.DRAINING, None, None),
        (S.CACHED, None, Step.ASSIGNED),
        (S.CACHED, "d", Step.STRAY),
        (S.FAILED, "d", Step.RETIRED),
        (S.FAILED, None, Step.STAGING_RETRIED),
    ],
)
def test_the_step_of_each_state_towards_bytes_only(
    state: VersionState, at_engine: str | None, step: Step | None
) -> None:
    record = Record(model="a", version=1, digest="d", state=state, at_engine=at_engine)
    wanted = AssignedVersion(model="a", version=1, digest="d", stage_only=True)
    assert view(record, wanted).next_step(A1) is step
