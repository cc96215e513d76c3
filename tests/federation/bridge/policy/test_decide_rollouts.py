"""Rollouts are acts: made once, paused, let go of."""

from typing import Any

from federation.bridge.policy.custom import FINALIZER, ROLLOUT, read
from federation.bridge.policy.decide import Facts, Note, SetFinalizers, Steer, decide
from tests.federation.bridge.policy.test_decide import settled
from tests.federation.bridge.policy.world import NOW, manifest


def step(phase: str, *, pause: str = "", deleting: bool = False, **spec: Any) -> Any:
    """Return what is done about a rollout of ours that is in this phase."""
    status = {"phase": phase, "pause": pause or None}
    live = {
        "metadata": {"name": "d", "createdAt": "t", "resourceVersion": 7},
        "spec": {"model": "m", "version": 2},
        "status": status,
    }
    return decide(_rollout("t", deleting=deleting, **spec), Facts(live=live), NOW)


def _rollout(created_at: str, *, deleting: bool = False, phase: str = "", **spec: Any) -> Any:
    obj = manifest(version=2, **spec)
    obj["metadata"]["finalizers"] = [FINALIZER]
    if deleting:
        obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    obj["status"] = {"createdAt": created_at, "phase": phase}
    return read(ROLLOUT, obj)


def test_a_rollout_is_paused_and_goes_on_as_its_object_says() -> None:
    assert step("baking", paused=True) == Steer("pause")
    assert step("paused", pause="manual", paused=False) == Steer("resume")
    for command in (
        step("paused", pause="manual", paused=True),
        step("paused", pause="gate", paused=False),
        step("paused", pause="manual"),
        step("promoted", paused=True),
        step("rolling-back", paused=True),
    ):
        assert isinstance(command, Note)


def test_a_rollout_that_is_let_go_of_goes_back_first() -> None:
    release = SetFinalizers(())
    assert step("baking", deleting=True) == Steer("abort")
    waiting = step("rolling-back", deleting=True)
    assert isinstance(waiting, Note)
    assert waiting.status["conditions"][0]["reason"] == "Aborting"
    assert step("rolled-back", deleting=True) == release
    assert step("baking", deleting=True, deletionPolicy="Keep") == release


def test_a_rollout_is_made_once() -> None:
    assert decide(_rollout("t", phase="promoted"), Facts(), NOW) is None
    told = decide(_rollout("t", phase="baking"), Facts(), NOW)
    assert isinstance(told, Note)
    assert told.status["conditions"][0]["reason"] == "Gone"
    assert "claim" not in told.status


def test_a_version_that_is_not_written_is_for_rollouts_to_decide() -> None:
    world = settled()
    assert world.live is not None
    world.live["spec"]["version"] = 2
    assert world.look() == 0
    world.edit(replicas=3)
    world.look()
    assert (world.live["spec"]["version"], world.live["spec"]["replicas"]) == (2, 3)
    world.edit(version=1)
    world.look()
    assert world.live["spec"]["version"] == 1
