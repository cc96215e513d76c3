"""`fed deploy`: who decides how many replicas there are, and inside which limits.

Input: flags, and what a deployment says so far. Output: its number of replicas and its Scaling.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import click

from federation.cli.options import DurationType
from federation.contract.resources import DeploymentSpec
from federation.contract.scaling import Scaling, ScalingMode

_MODES = [mode.value for mode in ScalingMode]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingFlags:
    """What the flags say; None = nothing."""

    replicas: int | None = None
    mode: ScalingMode | None = None
    least: int | None = None
    most: int | None = None
    target: float | None = None
    up_s: float | None = None
    down_s: float | None = None


def scaling_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --replicas, --scaling, --min, --max, --target, --up-after and --down-after, handed over
    as `scaling`."""

    @functools.wraps(function)  # with the options that it has by now
    def gathered(
        *arguments: Any,
        replicas: int | None,
        scaling_mode: str | None,
        least: int | None,
        most: int | None,
        target: float | None,
        up_after: timedelta | None,
        down_after: timedelta | None,
        **others: Any,
    ) -> Any:
        flags = ScalingFlags(
            replicas=replicas,
            mode=ScalingMode(scaling_mode) if scaling_mode else None,
            least=least,
            most=most,
            target=target,
            up_s=up_after.total_seconds() if up_after else None,
            down_s=down_after.total_seconds() if down_after else None,
        )
        return function(*arguments, scaling=flags, **others)

    count = click.IntRange(min=1)
    for option in (
        click.option(
            "--down-after",
            type=DurationType(),
            metavar="TIME",
            help="Fewer replicas, or none, after so long.  [default: 5m]",
        ),
        click.option(
            "--up-after",
            type=DurationType(),
            metavar="TIME",
            help="More replicas after so long.  [default: 15s]",
        ),
        click.option("--target", type=float, help="How busy replicas shall be.  [default: 0.7]"),
        click.option("--max", "most", type=count, help="Most replicas per cluster."),
        click.option(
            "--min",
            "least",
            type=click.IntRange(min=0),
            help="Fewest replicas per cluster, by load; 0 = none at all while nobody uses it.",
        ),
        click.option(
            "--scaling",
            "scaling_mode",
            type=click.Choice(_MODES),
            help="Who decides about replicas: nobody, the control plane, the engine.",
        ),
        click.option("--replicas", type=count, help="Replicas per cluster.  [default: 1]"),
    ):
        option(gathered)
    return gathered


def with_scaling(spec: DeploymentSpec, flags: ScalingFlags) -> DeploymentSpec:
    """Return the spec as the flags say; raises click.UsageError if they contradict each other."""
    told = (flags.least, flags.most, flags.target, flags.up_s, flags.down_s)
    limits = any(each is not None for each in told)
    follows = limits or flags.mode not in (None, ScalingMode.FIXED)
    if flags.replicas is not None and follows:
        raise click.UsageError(
            "--replicas is a fixed number; --min, --max and the others are for replicas that "
            "follow the load: say one or the other."
        )
    if flags.mode is ScalingMode.FIXED and limits:
        raise click.UsageError(
            "--min, --max, --target, --up-after and --down-after mean nothing with --scaling fixed."
        )
    held = spec.scaling
    mode = flags.mode or held.mode
    if flags.replicas is not None:
        mode = ScalingMode.FIXED
    elif limits and mode is ScalingMode.FIXED:
        mode = ScalingMode.AUTO
    scaling: Scaling = replace(
        held,
        mode=mode,
        target=held.target if flags.target is None else flags.target,
        up_s=held.up_s if flags.up_s is None else flags.up_s,
        down_s=held.down_s if flags.down_s is None else flags.down_s,
        **_limits(held, flags, mode),
    )
    replicas = spec.replicas if flags.replicas is None else flags.replicas
    return replace(spec, replicas=replicas, scaling=scaling)


def _limits(held: Scaling, flags: ScalingFlags, mode: ScalingMode) -> dict[str, int]:
    """Return both limits; the one that is not given makes way for the other, and a least of 0 that
    is not given anew for a mode that has none."""
    least, most = flags.least, flags.most
    if least is None:
        least = held.min if mode is ScalingMode.AUTO else max(held.min, 1)
        least = least if most is None else min(least, most)
    if most is None:
        most = max(held.max, least)
    return {"min": least, "max": most}
