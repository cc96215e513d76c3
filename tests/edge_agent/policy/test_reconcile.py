"""The reconciler, story by story; all orders of events are in test_reconcile_orders."""

import pytest

from edge_agent.policy.events import (
    AssignmentReceived,
    Cancel,
    EngineLost,
    Job,
    JobDone,
    KeepAssignment,
    ServingDoubted,
    Task,
    Ticked,
)
from edge_agent.policy.schedule import BOUNDS
from federation.contract.capacity import Resources
from federation.contract.rollout import Losses
from federation.contract.types import AssignedVersion, Assignment, VersionState
from tests.edge_agent.policy.reconcile_world import World, digest_of, warm_world

S = VersionState
A1, A2 = ("a", 1), ("a", 2)


@pytest.fixture
def world() -> World:
    return World()


def test_the_way_of_a_new_version(world: World) -> None:
    world.ask()
    world.assign(A1)
    states = [world.state(*A1)]
    while world.jobs:
        world.finish(min(world.jobs))
        states.append(world.state(*A1))
    assert states == [S.PENDING, S.STAGED, S.VERIFIED, S.LOADED, S.WARMED]
    assert world.told == ["stage a@1", "verify a@1", "load a@1", "warm-up a@1"]


def test_the_assignment_is_kept_before_anything_is_done_about_it(world: World) -> None:
    world.ask()
    commands = world.assign(A1)
    assert isinstance(commands[0], KeepAssignment)
    assert isinstance(commands[1], Job)


def test_nothing_is_loaded_before_the_engine_was_asked(world: World) -> None:
    world.assign(A1)
    world.finish(world.take(Task.STAGE))
    assert world.jobs == {}
    world.engine[A1] = digest_of(A1)  # an agent that came back finds its model loaded
    world.ask()
    world.run()
    assert world.state(*A1) is S.WARMED
    assert world.told == ["stage a@1", "warm-up a@1"]


def test_an_engine_that_is_down_does_not_hold_up_the_disk(world: World) -> None:
    world.send(EngineLost(reason="no answer"))
    world.assign(A1)
    world.finish(world.take(Task.STAGE))
    world.finish(world.take(Task.VERIFY))
    assert (world.state(*A1), world.jobs) == (S.VERIFIED, {})
    world.ask()
    assert world.take(Task.LOAD)


def test_other_content_under_our_name_is_unloaded_and_loaded(world: World) -> None:
    world.engine[A1] = "other"
    world.ask()
    world.assign(A1)
    world.run()
    assert world.told == ["stage a@1", "verify a@1", "heal a@1", "warm-up a@1"]
    assert world.engine[A1] == digest_of(A1)


def test_the_new_version_is_warm_before_the_old_one_drains() -> None:
    world = warm_world(A1)
    world.assign(A2)
    for task in (Task.STAGE, Task.VERIFY, Task.LOAD):
        assert world.state(*A1) is S.WARMED
        world.finish(world.take(task))
    assert world.state(*A1) is S.WARMED
    world.finish(world.take(Task.WARM_UP))
    assert world.state(*A1) is S.DRAINING
    assert A1 in world.engine
    world.finish(world.take(Task.DRAIN))
    world.finish(world.take(Task.UNLOAD))
    assert (world.state(*A1), world.state(*A2)) == (S.CACHED, S.WARMED)


def test_the_old_version_stays_while_the_new_one_fails() -> None:
    world = warm_world(A1)
    world.assign(A2)
    world.fail(world.take(Task.STAGE))
    for _ in range(5):
        world.now += 61
        world.ask()
        world.fail(world.take(Task.STAGE))
    assert (world.state(*A1), world.state(*A2)) == (S.WARMED, S.FAILED)
    (failed,) = [v for v in world.reconciler.observed() if v.version == 2]
    assert failed.reason == "stage failed"


def test_a_model_that_is_no_longer_wanted_drains_at_once() -> None:
    world = warm_world(A1)
    world.assign()
    assert world.state(*A1) is S.DRAINING
    world.run()
    assert world.told == ["drain a@1", "unload a@1"]
    assert world.state(*A1) is S.CACHED


def test_wanted_again_while_it_drains_costs_no_load() -> None:
    world = warm_world(A1)
    world.assign()
    world.assign(A1)
    world.run()
    assert world.state(*A1) is S.WARMED
    assert world.told == ["drain a@1", "stage a@1", "warm-up a@1"]


def test_wanted_again_while_it_is_unloaded_is_loaded_after() -> None:
    world = warm_world(A1)
    world.assign()
    world.finish(world.take(Task.DRAIN))
    world.assign(A1)
    world.run()
    assert world.state(*A1) is S.WARMED
    assert world.told.index("unload a@1") < world.told.index("load a@1")


@pytest.mark.parametrize("identity_known", [True, False])
def test_after_a_restart_of_the_engine_all_is_loaded_and_warmed_again(identity_known: bool) -> None:
    world = World()
    world.identity = "first" if identity_known else ""
    world.ask()
    world.assign(A1, ("b", 1))
    world.run()
    world.told.clear()
    world.restart_engine()
    if not identity_known:
        world.identity = ""
    world.ask()
    assert S.WARMED not in {world.state(*A1), world.state("b", 1)}
    world.run()
    assert sorted(world.told) == ["load a@1", "load b@1", "warm-up a@1", "warm-up b@1"]
    assert {world.state(*A1), world.state("b", 1)} == {S.WARMED}


def test_a_restarted_engine_that_has_it_already_is_only_warmed() -> None:
    world = warm_world(A1)
    world.identity = "second"
    world.warm.clear()
    world.ask()
    assert world.state(*A1) is S.LOADED
    world.run()
    assert world.told == ["warm-up a@1"]


def test_an_answer_older_than_our_load_is_not_believed() -> None:
    world = World()
    world.ask()
    world.assign(A1)
    for task in (Task.STAGE, Task.VERIFY):
        world.finish(world.take(task))
    asked_s = world.now
    loaded = world.take(Task.LOAD)
    world.now += 1
    world.finish(loaded)
    del world.engine[A1]  # what the engine answered when it was asked, before the load
    world.ask(asked_s=asked_s)
    assert world.state(*A1) is S.LOADED


def test_a_short_silence_of_the_engine_costs_nothing_a_long_one_a_warm_up() -> None:
    world = warm_world(A1)
    world.send(EngineLost(reason="no answer"))
    world.now += 1
    world.send(EngineLost(reason="no answer"))
    assert world.state(*A1) is S.WARMED
    world.ask()
    world.now += 2.5
    world.send(EngineLost(reason="no answer"))  # the silence starts anew
    assert world.state(*A1) is S.WARMED
    world.now += 3.5
    world.send(EngineLost(reason="no answer"))
    assert world.state(*A1) is S.VERIFIED
    world.run()
    assert (world.state(*A1), world.told) == (S.WARMED, ["warm-up a@1"])
    (seen,) = world.reconciler.observed()
    assert seen.losses == Losses(times=1, words="no answer")


def test_a_doubted_version_that_answers_stays_warm() -> None:
    world = warm_world(A1)
    world.now += 10
    world.send(ServingDoubted(model="a", version=1, reason="500 from the engine"))
    assert world.state(*A1) is S.WARMED
    world.finish(world.take(Task.WARM_UP))
    assert (world.state(*A1), world.jobs) == (S.WARMED, {})
    world.send(ServingDoubted(model="a", version=1, reason="again"))
    assert world.jobs == {}  # not twice within two seconds
    world.now += 3
    world.ask()
    assert world.take(Task.WARM_UP)


def test_a_doubted_version_that_does_not_answer_is_healed() -> None:
    world = warm_world(A1)
    world.now += 10
    world.send(ServingDoubted(model="a", version=1, reason="500 from the engine"))
    world.fail(world.take(Task.WARM_UP))
    assert world.state(*A1) is S.VERIFIED
    world.run()
    assert (world.state(*A1), world.told) == (S.WARMED, ["warm-up a@1", "heal a@1", "warm-up a@1"])


def test_an_engine_that_is_away_is_no_reason_to_heal() -> None:
    world = warm_world(A1)
    world.now += 10
    world.send(ServingDoubted(model="a", version=1, reason="refused"))
    world.fail(world.take(Task.WARM_UP), engine_down=True)
    assert world.state(*A1) is S.WARMED
    world.run()
    assert "heal a@1" not in world.told


def test_a_version_that_hangs_in_an_engine_that_answers_is_healed() -> None:
    world = warm_world(A1)
    world.send(ServingDoubted(model="a", version=1, reason="timeout"))
    for _ in range(2):
        world.now += 10
        world.ask()
        world.fail(world.take(Task.WARM_UP), engine_down=True)
    assert world.take(Task.HEAL)


def test_doubts_about_the_unknown_are_ignored(world: World) -> None:
    assert world.send(ServingDoubted(model="zzz", version=9, reason="?")) == []


def test_warm_ups_that_fail_twice_lead_to_a_new_load(world: World) -> None:
    world.ask()
    world.assign(A1)
    for task in (Task.STAGE, Task.VERIFY, Task.LOAD):
        world.finish(world.take(task))
    for _ in range(2):
        world.fail(world.take(Task.WARM_UP))
        assert world.state(*A1) is S.FAILED
        world.now += 61
        world.send(Ticked())
    assert world.take(Task.HEAL)


def test_retries_wait_longer_and_longer(world: World) -> None:
    world.ask()
    world.assign(A1)
    waits = []
    for _ in range(6):
        world.fail(world.take(Task.STAGE))
        started = world.now
        while not world.jobs:
            world.now += 0.1
            world.send(Ticked())
        waits.append(world.now - started)
    assert waits[0] < 1.2
    assert waits[-1] > 5


def test_bad_bytes_are_staged_again(world: World) -> None:
    world.ask()
    world.assign(A1)
    world.finish(world.take(Task.STAGE))
    world.fail(world.take(Task.VERIFY))
    world.run()
    assert world.state(*A1) is S.WARMED
    assert world.told.count("stage a@1") == 2


def test_strays_are_unloaded_only_when_the_desired_state_is_known(world: World) -> None:
    world.engine[A1] = ""
    for _ in range(5):
        world.ask()
    nothing = Assignment(cluster="c", generation=0)
    assert world.send(AssignmentReceived(assignment=nothing, fresh=True)) == []
    assert (world.kept, world.told) == (None, [])
    world.assign(A2)
    world.run()
    assert A1 not in world.engine
    assert world.state(*A1) is None
    assert "drain a@1" not in world.told


def test_an_undecided_control_plane_takes_nothing_away() -> None:
    world = warm_world(A1)
    empty = Assignment(cluster="c", generation=0)
    assert world.send(AssignmentReceived(assignment=empty, fresh=True)) == []
    assert world.state(*A1) is S.WARMED


def test_an_older_generation_counts_only_right_after_a_welcome() -> None:
    world = warm_world(A1)
    world.assign(A1, A2)
    old = Assignment(cluster="c", generation=1)
    assert world.send(AssignmentReceived(assignment=old)) == []
    assert world.state(*A1) is S.WARMED
    world.send(AssignmentReceived(assignment=old, fresh=True))
    assert world.kept == old
    assert world.state(*A1) is S.DRAINING


def test_a_version_that_is_no_longer_wanted_stops_being_fetched(world: World) -> None:
    world.ask()
    world.assign(A1)
    stage = world.take(Task.STAGE)
    assert Cancel(job=stage) in world.assign()
    assert world.state(*A1) is None
    assert world.send(JobDone(job=stage, model="a", version=1)) == []


def test_a_load_that_runs_is_not_abandoned(world: World) -> None:
    world.ask()
    world.assign(A1)
    for task in (Task.STAGE, Task.VERIFY):
        world.finish(world.take(task))
    load = world.take(Task.LOAD)
    assert world.assign() == [KeepAssignment(assignment=world.reconciler.assignment)]  # type: ignore[arg-type]
    world.finish(load)
    world.run()
    assert (world.engine, world.state(*A1)) == ({}, S.CACHED)


def test_an_engine_that_forgot_a_version_is_not_asked_to_warm_it(world: World) -> None:
    world.ask()
    world.assign(A1)
    for task in (Task.STAGE, Task.VERIFY, Task.LOAD):
        world.finish(world.take(task))
    world.fail(world.take(Task.WARM_UP))
    world.restart_engine()
    world.ask()
    assert world.take(Task.LOAD)


def test_failed_versions_are_tried_at_once_when_the_engine_is_back(world: World) -> None:
    world.ask()
    world.assign(A1)
    for task in (Task.STAGE, Task.VERIFY):
        world.finish(world.take(task))
    world.fail(world.take(Task.LOAD), engine_down=True)
    world.restart_engine()
    world.ask()
    assert world.take(Task.LOAD)


def test_the_bounds_hold_for_many(world: World) -> None:
    world.ask()
    world.assign(*((f"m{n}", 1) for n in range(40)))
    assert len(world.jobs) == BOUNDS["transfer"]
    world.run()
    assert len(world.engine) == 40


def test_jobs_carry_the_room_that_replicas_were_given(world: World) -> None:
    world.ask()
    needs = Resources(gpus=2, memory_mib=40_000)
    version = AssignedVersion(model="a", version=1, digest=digest_of(A1), needs=needs)
    assignment = Assignment(cluster="c", generation=1, versions=(version,))
    world.send(AssignmentReceived(assignment=assignment))
    seen = {}
    while world.jobs:
        job = world.jobs[min(world.jobs)]
        seen[job.task] = job.needs
        world.finish(job.id)
    assert seen[Task.LOAD] == needs
