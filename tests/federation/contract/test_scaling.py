"""Limits of replicas: what is inside them, what is refused."""

import pytest

from federation.contract.scaling import Scaling, ScalingMode, scaling_problems


@pytest.mark.parametrize(("asked", "given"), [(0, 2), (2, 2), (3, 3), (5, 5), (99, 5)])
def test_within(asked: int, given: int) -> None:
    assert Scaling(min=2, max=5).within(asked) == given


def test_what_can_be_written() -> None:
    assert not list(scaling_problems(Scaling()))
    assert not list(scaling_problems(Scaling(mode=ScalingMode.AUTO, max=8, up_s=0, down_s=0)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Scaling(mode=ScalingMode.AUTO, min=-1), "min must be 0 to 1000"),
        (Scaling(min=0), "a min of 0 needs mode auto"),
        (Scaling(min=3, max=2), "min at most max, not 3 and 2"),
        (Scaling(max=1001), "not 1 and 1001"),
        (Scaling(target=0.0), "a share above 0"),
        (Scaling(target=1.1), "not 1.1"),
        (Scaling(target=float("nan")), "not nan"),
        (Scaling(up_s=-1.0), "up_s must be 0 to 86400 seconds, not -1"),
        (Scaling(down_s=float("inf")), "down_s"),
    ],
)
def test_what_is_refused(wrong: Scaling, words: str) -> None:
    (problem,) = scaling_problems(wrong)
    assert words in problem
