"""Assignments, and the sentences about them."""

from datetime import UTC, datetime

import pytest

from federation.contract.types import AssignedVersion
from federation.policy.assigning import assign, kept
from federation.policy.events import Assign
from federation.policy.state import Step
from tests.federation.policy.world import World


def version(model: str, number: int, *, ready: bool = False) -> AssignedVersion:
    return AssignedVersion(
        model=model, version=number, digest=f"{model}:{number}", stage_only=ready
    )


A1, B1, C1 = version("a", 1), version("b", 1), version("c", 1)


@pytest.mark.parametrize(
    ("changes", "order", "words"),
    [
        ({"b": (B1, version("b", 2))}, "a1 b1 b2 c1", "b 1, b 2; 2 other versions stay."),
        ({"aa": (version("aa", 1),)}, "a1 aa1 b1 c1", "aa 1; 3 other versions stay."),
        (
            {"b": (B1, version("b", 2, ready=True))},
            "a1 b1 b2 c1",
            "b 1 and have ready b 2; 2 other versions stay.",
        ),
        ({"a": ()}, "b1 c1", "nothing of a; 2 other versions stay."),
        ({"a": (), "b": ()}, "c1", "nothing of a, nothing of b; 1 other version stays."),
        ({"a": (), "b": (), "c": ()}, "", "nothing."),
    ],
)
def test_what_changes_is_put_in_its_place_and_told(
    changes: dict[str, tuple[AssignedVersion, ...]], order: str, words: str
) -> None:
    world = World()
    world.cluster("x")
    step = Step(world.state, datetime(2026, 1, 1, tzinfo=UTC), "ada")
    assign(step, world.state.clusters["x"], {"a": (A1,), "b": (B1,), "c": (C1,)})
    before = world.state.clusters["x"].assignment
    assign(step, world.state.clusters["x"], changes)
    after = world.state.clusters["x"].assignment
    assert " ".join(f"{v.model}{v.version}" for v in after.versions) == order
    assert after.generation == before.generation + 1
    assert [c.assignment for c in step.commands if isinstance(c, Assign)] == [before, after]
    told = list(world.state.audit.values())[-1]
    assert (told.reason, told.message) == (
        "AssignmentChanged",
        f"cluster 'x' shall serve {words}",
    )


def test_what_stays_as_it_was_stays_the_same_object() -> None:
    again, other = version("a", 1), version("a", 2)
    assert again is not A1
    first, second = kept((again, other), (A1,))
    assert first is A1
    assert second is other
