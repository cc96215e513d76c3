"""What people write of a rollout on the command line: waves, steps, shares, ratios.

Input: words like "eu-west; us-east,us-west; *". Output: values of the contract; what cannot be read
is a usage error (exit code 2) that shows how to write it.
"""

from dataclasses import replace

import click

from federation.cli.options import NumbersType
from federation.contract.rollout import Wave
from federation.contract.rollout_rules import EVERYWHERE

_WAVES = '"eu-west; us-east,us-west; *"'


class WavesType(click.ParamType[tuple[Wave, ...]]):
    """Waves behind semicolons: regions, clusters as cluster/NAME, labels as KEY=VALUE, or "*"."""

    name = "waves"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Wave, ...]:
        """Return the waves."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(";")
        if len(parts) > 1 and not parts[-1].strip():
            parts.pop()  # a semicolon at the end
        waves = []
        for number, part in enumerate(parts, start=1):
            wave = _wave(part)
            if wave is None:
                self.fail(f"wave {number} of {value!r} is empty; write {_WAVES}.", param, ctx)
            if isinstance(wave, str):
                self.fail(f"wave {number} of {value!r}: {wave}", param, ctx)
            waves.append(wave)
        return tuple(waves)


def _wave(text: str) -> Wave | str | None:
    """Return a wave, None for an empty one, or what is wrong with it."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    regions, clusters, labels = [], [], {}
    for word in words:
        head, slash, name = word.partition("/")
        key, equals, label = word.partition("=")
        if " " in word:
            return f"{word!r} has a space in it; put ',' between regions, ';' between waves."
        if equals:
            if not key:
                return f"{word!r} is no label; write KEY=VALUE."
            labels[key] = label
        elif slash:
            if head not in ("cluster", "cl") or not name:
                return f"{word!r} is neither a region nor cluster/NAME."
            clusters.append(name)
        else:
            regions.append(word)
    if not words:
        return None
    return Wave(regions=tuple(regions), clusters=tuple(clusters), cluster_labels=labels)


def waves_text(waves: tuple[Wave, ...]) -> str:
    """Return waves as `WavesType` reads them."""
    return "; ".join(
        ",".join(
            [
                *wave.regions,
                *(f"cluster/{name}" for name in wave.clusters),
                *(f"{key}={value}" for key, value in wave.cluster_labels.items()),
            ]
        )
        for wave in waves
    )


class StepsType(click.ParamType[tuple[float, ...]]):
    """Comma-separated percent, rising to 100; "%" may stand behind each."""

    name = "5,25,100"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the percentages."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(word.strip().removesuffix("%")) for word in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} are no percentages; write 5,25,100.", param, ctx)


class ShareType(click.ParamType[float]):
    """A share: 1% or 0.01."""

    name = "share"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the share, 0 to 1."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            number = float(text.removesuffix("%").strip())
        except ValueError:
            self.fail(f"{value!r} is no share; write 1% or 0.01.", param, ctx)
        share = number / 100 if text.endswith("%") else number
        if not 0 <= share <= 1:
            meant = f" Did you mean {text}%?" if not text.endswith("%") and number <= 100 else ""
            self.fail(f"{value!r} is more than everything or less than nothing.{meant}", param, ctx)
        return share


class RatioType(click.ParamType[float]):
    """A ratio: 1.2, 1.2x or +20%; all mean the same."""

    name = "ratio"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the ratio, 1 or more."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            if text.endswith("%"):
                ratio = 1 + float(text.rstrip("%").strip()) / 100
            else:
                ratio = float(text.removesuffix("x"))
        except ValueError:
            self.fail(f"{value!r} is no ratio; write 1.2 or +20%.", param, ctx)
        if not 1 <= ratio < float("inf"):
            meant = f" Did you mean {1 + ratio:g}?" if 0 < ratio < 1 else ""
            self.fail(
                f"{value!r} is below 1; write 1.2 for at most 20 % slower.{meant}", param, ctx
            )
        return round(ratio, 9)


class GatesType(NumbersType):
    """Comma-separated numbers of waves, from 1."""

    name = "2,3"


def gated(waves: tuple[Wave, ...], gates: tuple[int, ...]) -> tuple[Wave, ...]:
    """Return the waves, of which these (from 1) wait for an approval; raises click.UsageError."""
    whole = waves or (Wave(regions=(EVERYWHERE,)),)
    for gate in gates:
        if gate > len(whole):
            raise click.UsageError(f"--gate {gate}: there are only {len(whole)} waves.")
    return tuple(
        replace(wave, approval=wave.approval or number in gates)
        for number, wave in enumerate(whole, start=1)
    )
