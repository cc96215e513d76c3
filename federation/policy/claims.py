"""What versions take of a cluster's GPUs: claims, and the spots where their replicas are.

Input: what a replica needs, times replicas. Output: values for `packing`, and the words for them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from federation.contract.capacity import Resources
from federation.contract.matching import gib


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """`replicas` of something called `holder` ("llama 7"), each with these needs."""

    holder: str
    needs: Resources
    replicas: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """What one replica takes: whole `units` of a pool (its number), or a share of the pool's shared
    unit number `slot`."""

    holder: str
    pool: int
    units: int = 0
    slot: int = -1


def joined(rest: Iterable[Claim], missing: Iterable[Claim]) -> list[Claim]:
    """Return claims with what they are owed, each holder once."""
    whole: dict[str, Claim] = {}
    for claim in (*rest, *missing):
        held = whole.get(claim.holder)
        replicas = claim.replicas + (held.replicas if held else 0)
        whole[claim.holder] = replace(claim, replicas=replicas)
    return list(whole.values())


def amount(needs: Resources) -> str:
    """Return what a replica needs, as people say it."""
    memory = f" with {gib(needs.memory_mib)}" if needs.memory_mib else ""
    if needs.fraction:
        return f"{needs.fraction:.3g} of a GPU{memory}"
    return f"{needs.gpus} GPU{'' if needs.gpus == 1 else 's'}{memory}"
