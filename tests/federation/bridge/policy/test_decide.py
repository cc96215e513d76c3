"""One custom resource after the other: what the bridge does, whatever happens in between."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.bridge.policy.custom import CLUSTER, FINALIZER
from federation.bridge.policy.decide import (
    Change,
    Create,
    Facts,
    Note,
    Remove,
    Schedule,
    SetFinalizers,
    decide,
)
from tests.depth import examples
from tests.federation.bridge.policy.world import NOW, SILENT, World, manifest


def kinds(world: World) -> list[type]:
    return [type(command) for command in world.log]


def gone(world: World) -> bool:
    return world.obj is None and world.live is None


def settled(**spec: Any) -> World:
    """A world in which the bridge has made the object."""
    world = World(manifest(**spec))
    world.look()
    world.log.clear()
    return world


def test_a_creation_is_claimed_before_and_noted_after_it() -> None:
    world = World(manifest(replicas=2))
    world.look()
    assert kinds(world) == [SetFinalizers, Note, Create, Note]
    assert world.as_wished()
    assert world.told() == ("True", "Applied")
    assert world.told("Ready") == ("True", "Ready")
    assert world.obj is not None
    assert world.live is not None
    assert world.obj["status"]["createdAt"] == world.live["metadata"]["createdAt"]
    assert "claim" not in world.obj["status"]
    assert world.look() == 0


def test_a_change_is_made_at_the_version_that_was_read() -> None:
    world = settled()
    world.edit(replicas=3)
    world.look()
    assert kinds(world) == [Change, Note]
    assert world.as_wished()
    assert world.obj is not None
    assert world.obj["status"]["observedGeneration"] == 2


def test_drift_is_repaired_and_a_lost_object_is_made_anew() -> None:
    world = settled(replicas=2)
    world.drift()
    world.look()
    assert kinds(world) == [Change]
    world.lose()
    world.look()
    assert kinds(world) == [Change, Note, Create, Note]
    assert world.as_wished()


def test_a_deletion_takes_our_object_along() -> None:
    world = settled()
    world.delete()
    world.look()
    assert kinds(world) == [Remove, SetFinalizers]
    assert gone(world)


def test_what_shall_be_kept_is_kept() -> None:
    world = settled(deletionPolicy="Keep")
    world.silent = True
    world.delete()
    world.look()
    assert kinds(world) == [SetFinalizers]
    assert world.obj is None
    assert world.live is not None


def test_what_somebody_else_made_is_left_alone_unless_it_is_handed_over() -> None:
    world = World(manifest(replicas=2))
    world.make_foreign()
    world.look()
    assert kinds(world) == [SetFinalizers, Note]
    assert world.told() == ("False", "NotOwned")
    assert "adopt" in world.condition("Synced")["message"]
    assert world.live is not None
    assert world.live["spec"]["replicas"] == 7
    world.adopt()
    world.look()
    assert kinds(world)[2:] == [Note, Change, Note]
    assert world.as_wished()
    assert world.told() == ("True", "Applied")


def test_a_deletion_leaves_alone_what_is_not_ours() -> None:
    world = World(manifest())
    world.make_foreign()
    world.look()
    world.delete()
    world.look()
    assert world.obj is None
    assert world.live is not None
    assert Remove not in kinds(world)


def test_one_that_was_made_anew_by_somebody_else_is_not_ours() -> None:
    world = settled(replicas=2)
    world.lose()
    world.make_foreign()
    world.look()
    assert world.told() == ("False", "NotOwned")
    assert Change not in kinds(world)


def test_silence_is_told_and_nothing_is_forgotten() -> None:
    world = settled()
    assert world.obj is not None
    before = dict(world.obj["status"])
    world.silent = True
    world.edit(replicas=4)
    world.look()
    assert kinds(world) == [Note]
    assert world.told() == ("False", "ControlPlaneUnreachable")
    assert world.told("Ready") == ("Unknown", "ControlPlaneUnreachable")
    assert world.obj["status"]["createdAt"] == before["createdAt"]
    assert world.obj["status"]["warm"] == before["warm"]
    assert world.look() == 0  # told once
    world.silent = False
    world.look()
    assert world.as_wished()
    assert world.told() == ("True", "Applied")


def test_a_deletion_waits_while_the_control_plane_is_silent() -> None:
    world = settled()
    world.silent = True
    world.delete()
    world.look()
    assert world.obj is not None
    assert world.told() == ("False", "ControlPlaneUnreachable")
    world.silent = False
    world.look()
    assert gone(world)


def test_a_refusal_is_told_in_its_own_words_and_tried_again() -> None:
    world = World(manifest())
    world.refuses = True
    world.look()
    assert world.told() == ("False", "Refused")
    assert "unknown" in world.condition("Synced")["message"]
    world.log.clear()
    world.look()
    assert kinds(world) == [Create]  # and nothing is written
    world.refuses = False
    world.look()
    assert world.as_wished()


def test_a_spec_that_makes_no_sense_is_told() -> None:
    world = World(manifest(replicas="many"))
    world.look()
    assert world.told() == ("False", "InvalidSpec")
    world.delete()
    world.look()
    assert world.obj is None


@pytest.mark.parametrize("edited", [False, True])
def test_after_a_crash_between_creation_and_note_it_is_still_ours(*, edited: bool) -> None:
    world = World(manifest())
    world.look(steps=3)
    assert kinds(world)[-1] is Create
    if edited:
        world.edit(replicas=5)
    world.look()
    assert world.as_wished()
    assert world.told() == ("True", "Applied")
    world.delete()
    world.look()
    assert gone(world)


def test_a_deletion_after_such_a_crash_takes_it_along_too() -> None:
    world = World(manifest())
    world.look(steps=3)
    world.delete()
    world.look()
    assert gone(world)


def test_somebody_else_was_faster_than_our_claim() -> None:
    world = World(manifest())
    world.look(steps=2)  # claimed
    world.make_foreign()
    world.look()
    assert world.told() == ("False", "NotOwned")
    assert world.obj is not None
    assert "claim" not in world.obj["status"]
    world.delete()
    world.look()
    assert world.obj is None
    assert world.foreign


def test_a_deletion_under_a_claim_leaves_alone_what_is_not_ours() -> None:
    world = World(manifest())
    world.look(steps=2)
    world.make_foreign()
    world.delete()
    world.look()
    assert world.obj is None
    assert world.foreign


def test_what_was_made_and_is_gone_before_it_was_noted_is_made_anew() -> None:
    world = World(manifest())
    world.look(steps=3)
    world.lose()
    world.look()
    assert world.as_wished()
    assert len(world.receipts) == 2


def test_a_claim_in_error_does_not_disown_our_object() -> None:
    world = settled(replicas=2)
    assert world.custom is not None
    world.look(steps=1, facts=Facts(live=None))  # as a bridge that read too early
    assert world.told() == ("False", "Creating")
    world.look()
    assert world.told() == ("True", "Applied")
    world.look(steps=1, facts=Facts(live=None))
    world.delete()
    world.look()
    assert gone(world)


def test_clusters_are_scheduled_as_the_spec_says_and_else_as_operators_do() -> None:
    obj = manifest()
    obj["spec"] = {"region": "eu", "scheduling": "draining"}
    world = World(obj, bridged=CLUSTER)
    world.look()
    assert Schedule("drain") in world.log
    assert world.live is not None
    assert world.live["status"]["scheduling"] == "draining"
    world.edit(scheduling="active")
    world.look()
    assert world.log[-2:] == [Schedule("uncordon"), world.log[-1]]
    world.edit(scheduling=None)
    world.live["status"]["scheduling"] = "cordoned"
    world.look()
    assert world.live["status"]["scheduling"] == "cordoned"


def test_a_time_that_runs_is_no_news() -> None:
    world = settled()
    assert world.live is not None
    world.live["status"] |= {"ready": False, "reason": "no report for 12 s"}
    world.look()
    assert world.condition("Ready")["message"] == "no report"
    world.live["status"]["reason"] = "no report for 13 s"
    assert world.look() == 0


def test_other_finalizers_stay() -> None:
    world = settled()
    assert world.obj is not None
    world.obj["metadata"]["finalizers"].insert(0, "example.com/mine")
    world.delete()
    world.look()
    assert world.live is None
    assert world.obj is not None
    assert world.obj["metadata"]["finalizers"] == ["example.com/mine"]
    assert world.look() == 0


def test_nothing_is_done_for_what_is_going_without_us() -> None:
    obj = manifest()
    obj["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}
    custom = World(obj).custom
    assert custom is not None
    assert decide(custom, Facts(trouble=SILENT), NOW) is None


# ---------------------------------------------------------------- whatever happens

ACTIONS = (
    "look", "look", "look", "step", "step", "edit", "drift", "lose", "make_foreign", "adopt",
    "delete", "read", "read", "look_late", "look_late", "refuse", "accept", "fall_silent", "answer",
)  # fmt: skip


def act(world: World, action: str, number: int) -> None:
    match action:
        case "look":
            world.look()
        case "step":  # it stops in the middle, and remembers nothing
            world.look(steps=1 + number % 4)
        case "edit":
            world.edit(replicas=1 + number)
        case "refuse" | "accept":
            world.refuses = action == "refuse"
        case "fall_silent" | "answer":
            world.silent = action == "fall_silent"
        case _:
            getattr(world, action)()


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9)), max_size=14))
def test_in_the_end_it_is_as_wished_or_said_why_not(actions: list[tuple[str, int]]) -> None:
    """`World` asserts that nobody else's object is deleted."""
    world = World(manifest())
    for action, number in actions:
        adopted = world.obj is not None and "annotations" in world.obj["metadata"]
        before = world.live if world.foreign and not adopted else None
        act(world, action, number)
        if before is not None and action in ("look", "step", "look_late"):
            assert world.live == before, "somebody else's object was changed"
    world.silent = world.refuses = False
    assert sum(world.look() for _ in range(4)) < 4 * 8
    assert world.look() == 0, world.log[-8:]
    if world.obj is None:
        assert world.live is None or world.foreign
        return
    assert world.obj["metadata"]["finalizers"] == [FINALIZER]
    if world.told() == ("True", "Applied"):
        assert world.as_wished()
        assert not world.foreign
    else:
        assert world.told() == ("False", "NotOwned")
        assert world.foreign
