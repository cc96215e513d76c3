"""Flags about replicas: what they mean together with what a deployment says so far."""

import click
import pytest

from federation.cli.scaling import ScalingFlags, with_scaling
from federation.contract.resources import DeploymentSpec
from federation.contract.scaling import Scaling, ScalingMode

FIXED, AUTO, ENGINE = ScalingMode
HELD = DeploymentSpec(model="m", replicas=3)
SLEEPS = DeploymentSpec(model="m", scaling=Scaling(mode=AUTO, min=0, max=3, target=0.5))
FOLLOWS = DeploymentSpec(model="m", scaling=Scaling(mode=AUTO, min=2, max=6, target=0.5))


@pytest.mark.parametrize(
    ("held", "flags", "expected"),
    [
        (HELD, ScalingFlags(), (3, FIXED, 1, 1, 0.7)),
        (HELD, ScalingFlags(replicas=5), (5, FIXED, 1, 1, 0.7)),
        (HELD, ScalingFlags(most=4), (3, AUTO, 1, 4, 0.7)),
        (HELD, ScalingFlags(least=2), (3, AUTO, 2, 2, 0.7)),
        (HELD, ScalingFlags(most=4, mode=ENGINE), (3, ENGINE, 1, 4, 0.7)),
        (FOLLOWS, ScalingFlags(), (1, AUTO, 2, 6, 0.5)),
        (FOLLOWS, ScalingFlags(target=0.9), (1, AUTO, 2, 6, 0.9)),
        (FOLLOWS, ScalingFlags(most=1), (1, AUTO, 1, 1, 0.5)),
        (FOLLOWS, ScalingFlags(least=9), (1, AUTO, 9, 9, 0.5)),
        (FOLLOWS, ScalingFlags(replicas=2), (2, FIXED, 2, 6, 0.5)),
        (FOLLOWS, ScalingFlags(mode=FIXED), (1, FIXED, 2, 6, 0.5)),
        (FOLLOWS, ScalingFlags(replicas=2, mode=FIXED), (2, FIXED, 2, 6, 0.5)),
        (HELD, ScalingFlags(least=0), (3, AUTO, 0, 1, 0.7)),
        (SLEEPS, ScalingFlags(most=5), (1, AUTO, 0, 5, 0.5)),
        (SLEEPS, ScalingFlags(replicas=2), (2, FIXED, 1, 3, 0.5)),
        (SLEEPS, ScalingFlags(mode=ENGINE), (1, ENGINE, 1, 3, 0.5)),
        (SLEEPS, ScalingFlags(least=1), (1, AUTO, 1, 3, 0.5)),
    ],
)
def test_what_flags_mean(
    held: DeploymentSpec, flags: ScalingFlags, expected: tuple[int, ScalingMode, int, int, float]
) -> None:
    spec = with_scaling(held, flags)
    found = spec.scaling
    assert (spec.replicas, found.mode, found.min, found.max, found.target) == expected


def test_how_long_the_load_must_last() -> None:
    found = with_scaling(HELD, ScalingFlags(up_s=5.0, down_s=60.0)).scaling
    assert (found.mode, found.up_s, found.down_s) == (AUTO, 5.0, 60.0)
    kept = with_scaling(FOLLOWS, ScalingFlags(down_s=60.0)).scaling
    assert (kept.up_s, kept.down_s) == (FOLLOWS.scaling.up_s, 60.0)


@pytest.mark.parametrize(
    "flags",
    [
        ScalingFlags(replicas=2, most=3),
        ScalingFlags(replicas=2, mode=AUTO),
        ScalingFlags(mode=FIXED, target=0.5),
        ScalingFlags(replicas=2, down_s=60.0),
    ],
)
def test_what_contradicts_itself_is_refused(flags: ScalingFlags) -> None:
    with pytest.raises(click.UsageError):
        with_scaling(HELD, flags)
