"""How the number of replicas changes while a version serves."""

import random

from edge_agent.policy.events import Task, Ticked
from edge_agent.policy.reconcile import Reconciler
from federation.contract.types import VersionState
from tests.edge_agent.policy.reconcile_world import warm_world

S = VersionState
A1 = ("a", 1)


def test_other_replicas_are_a_load_in_place() -> None:
    world = warm_world(A1)
    world.assign(A1, replicas=3)
    job = world.jobs[world.take(Task.RESIZE)]
    assert job.replicas == 3
    assert world.state(*A1) is S.WARMED
    world.finish(job.id)
    assert world.state(*A1) is S.WARMED
    world.run()
    assert world.told == ["resize a@1"]
    (observed,) = world.reconciler.observed()
    assert observed.replicas == 3


def test_other_replicas_that_cannot_be_had_are_asked_for_again_more_and_more_rarely() -> None:
    world = warm_world(A1)
    world.assign(A1, replicas=3)
    tries, started = 0, world.now
    while world.now < started + 300:
        if any(job.task is Task.RESIZE for job in world.jobs.values()):
            world.fail(world.take(Task.RESIZE))
            tries += 1
        for job in sorted(world.jobs):
            world.finish(job)  # it still answers
        world.now += 1
        world.ask()
        assert world.state(*A1) is S.WARMED
    assert 6 <= tries <= 16
    (observed,) = world.reconciler.observed()
    assert (observed.replicas, observed.reason) == (1, "resize failed")


def test_a_version_that_does_not_survive_a_change_of_replicas_is_loaded_anew() -> None:
    world = warm_world(A1)
    world.assign(A1, replicas=3)
    world.fail(world.take(Task.RESIZE))
    world.now += 5
    world.send(Ticked())
    world.fail(world.take(Task.WARM_UP))
    assert world.state(*A1) is not S.WARMED
    world.run()
    (observed,) = world.reconciler.observed()
    assert (observed.state, observed.replicas) == (S.WARMED, 3)


def test_an_adopted_version_has_the_replicas_that_the_engine_tells() -> None:
    world = warm_world(A1)  # with one
    world.reconciler = Reconciler(dice=random.Random(3))
    world.assign(A1, replicas=3)
    world.run()
    assert "resize a@1" in world.told
    assert world.reconciler.observed()[0].replicas == 3


def test_replicas_that_the_engine_replaces_do_not_count_meanwhile() -> None:
    world = warm_world(A1)
    world.assign(A1, replicas=3)
    world.run()
    world.replicas[A1] = 2
    world.ask()
    assert not world.jobs
    assert world.reconciler.observed()[0].replicas == 2
    world.replicas[A1] = 4  # one too many, for a moment
    world.ask()
    assert world.reconciler.observed()[0].replicas == 3


def test_the_engines_own_autoscaler_is_left_alone() -> None:
    world = warm_world(A1)
    world.assign(A1, replicas=2, max_replicas=5)
    world.run()
    assert world.told == ["resize a@1"]
    world.replicas[A1] = 4
    world.ask()
    assert not world.jobs
    assert world.reconciler.observed()[0].replicas == 4
    world.reconciler = Reconciler(dice=random.Random(3))
    world.assign(A1, replicas=2, max_replicas=5)
    world.run()
    assert "resize a@1" not in world.told[1:]
    assert world.reconciler.observed()[0].replicas == 4


def test_a_version_that_is_just_being_loaded_anew_is_not_lost() -> None:
    world = warm_world(A1)
    world.assign(A1, replicas=2)
    load = world.take(Task.RESIZE)
    world.engine.clear()  # as an engine that lists only what is ready
    assert world.ask() == []
    assert world.state(*A1) is S.WARMED
    world.finish(load)
    assert world.state(*A1) is S.WARMED
