"""How many partitions a GPU gives, by the name of their profile.

Input: profiles ("3g.20gb", "cpx_nps4"), products. Output: numbers of partitions and of GPUs.
NVIDIA: https://docs.nvidia.com/datacenter/tesla/mig-user-guide/supported-mig-profiles.html
AMD: https://instinct.docs.amd.com/projects/amdgpu-docs/en/latest/gpu-partitioning/index.html
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from math import ceil

_MIG = re.compile(r"(?:\d+c\.)?(\d+)g\.(\d+)gb.*")
_SLICES = 7  # compute slices of a GPU that can be cut
_SLICES_OF_SMALL = 4
_SMALL = re.compile(r"\bA30\b|RTX.PRO")
_GIGABYTES = re.compile(r"(\d+)GB")

_AMD_PARTS = {"spx": 1, "dpx": 2, "tpx": 3, "qpx": 4, "cpx": 8}  # of 8 compute dies
_DIES_OF_MI300A = 6


def amd_parts(profile: str, product: str) -> int:
    """Return how many partitions a GPU has under a profile ("cpx_nps4"); 1 if it is not known."""
    mode = profile.partition("_")[0]
    if mode == "cpx" and "MI300A" in product:
        return _DIES_OF_MI300A
    return _AMD_PARTS.get(mode, 1)


def mig_cards(instances: Sequence[tuple[str, int]], product: str, card_mib: int) -> int:
    """Return the least number of GPUs that can hold these (profile, number) of MIG instances.

    `card_mib` is the memory of a whole GPU; 0: the product's name may tell it.
    """
    slices = _SLICES_OF_SMALL if _SMALL.search(product) else _SLICES
    named = _GIGABYTES.search(product)
    card_gb = Fraction(card_mib, 1024) if card_mib else Fraction(int(named[1]) if named else 0)
    compute, memory, alone = Fraction(0), Fraction(0), Fraction(0)
    for profile, number in instances:
        if not (found := _MIG.fullmatch(profile)):
            continue
        size, size_gb = int(found[1]), int(found[2])
        compute += Fraction(number * size, slices)
        alone = max(alone, Fraction(number, max(1, slices // max(1, size))))
        if card_gb and size_gb:  # names are rounded: two of 71 GB fit into 141 GB
            memory += Fraction(number, max(1, round(card_gb / size_gb)))
    return ceil(max(compute, memory, alone))
