"""Waves: which clusters move together, and which come later.

Input: a strategy, and the clusters of a deployment with their specs. Output: WaveRecords that hold
each of these clusters exactly once; Invalid for waves that overlap, are empty, name what is unknown
or leave somebody out.
"""

from collections.abc import Mapping

from federation.contract.errors import Invalid
from federation.contract.names import did_you_mean
from federation.contract.resources import ClusterSpec
from federation.contract.rollout import Wave
from federation.contract.rollout_rules import EVERYWHERE
from federation.policy.rollouts.records import WaveRecord


def resolved(
    waves: tuple[Wave, ...], clusters: Mapping[str, ClusterSpec], regions: Mapping[str, object]
) -> tuple[WaveRecord, ...]:
    """Return the waves with their clusters by name; no waves = all clusters at once.

    `clusters` are those of the deployment, `regions` all that are known.
    """
    if not clusters:
        raise Invalid(
            "no cluster serves the deployment, so there is nothing to roll out.",
            hint="`fed describe deployment` says what is in the way.",
            reason="no-clusters",
        )
    found: list[WaveRecord] = []
    taken: dict[str, int] = {}
    for number, wave in enumerate(waves or (Wave(regions=(EVERYWHERE,)),), start=1):
        names = _selected(wave, number, clusters, regions)
        if EVERYWHERE in wave.regions:
            names -= taken.keys()
        _check(names, number, taken, everywhere=EVERYWHERE in wave.regions)
        taken.update(dict.fromkeys(names, number))
        if names:
            found.append(
                WaveRecord(
                    regions=tuple(sorted({clusters[name].region for name in names})),
                    clusters=tuple(sorted(names)),
                    approval=wave.approval,
                )
            )
    if left := sorted(clusters.keys() - taken.keys()):
        raise Invalid(
            f"no wave has {_some(left)}.",
            hint='End with the wave "*": it is all that no other wave names.',
            reason="waves-incomplete",
        )
    return tuple(found)


def _selected(
    wave: Wave,
    number: int,
    clusters: Mapping[str, ClusterSpec],
    regions: Mapping[str, object],
) -> set[str]:
    """Return the clusters of one wave."""
    if EVERYWHERE in wave.regions:
        return set(clusters)
    for region in wave.regions:
        if region not in regions:
            raise Invalid(
                f"wave {number} names the region {region!r}, which does not exist.",
                hint=did_you_mean(region, regions),
                reason="unknown-region",
            )
        if not any(spec.region == region for spec in clusters.values()):
            raise Invalid(
                f"wave {number} names the region {region!r}, where no cluster serves the "
                "deployment.",
                hint="Leave it out: '*' will have its clusters when there are some.",
                reason="empty-region",
            )
    for name in wave.clusters:
        if name not in clusters:
            raise Invalid(
                f"wave {number} names the cluster {name!r}, which does not serve the deployment.",
                hint=did_you_mean(name, clusters),
                reason="unknown-cluster",
            )
    named = {n for n, spec in clusters.items() if spec.region in wave.regions} | set(wave.clusters)
    if wave.cluster_labels:
        fitting = {n for n, spec in clusters.items() if _has(spec, wave.cluster_labels)}
        # Labels narrow regions down; alone, they choose.
        named = {n for n in named if n in fitting or n in wave.clusters} if named else fitting
    return named


def _check(names: set[str], number: int, taken: Mapping[str, int], *, everywhere: bool) -> None:
    if not names and not everywhere:
        raise Invalid(f"wave {number} has no cluster.", reason="empty-wave")
    if twice := sorted(names & taken.keys()):
        raise Invalid(
            f"{_some(twice)} would be in wave {taken[twice[0]]} and again in wave {number}.",
            hint="Each cluster moves once.",
            reason="waves-overlap",
        )


def _has(spec: ClusterSpec, labels: Mapping[str, str]) -> bool:
    return all(spec.labels.get(key) == value for key, value in labels.items())


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return f"cluster {shown}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def shared_regions(waves: tuple[WaveRecord, ...]) -> dict[str, list[int]]:
    """Return the regions that are in more than one wave, with the numbers of these, from 1."""
    found: dict[str, list[int]] = {}
    for number, wave in enumerate(waves, start=1):
        for region in wave.regions:
            found.setdefault(region, []).append(number)
    return {region: numbers for region, numbers in found.items() if len(numbers) > 1}
