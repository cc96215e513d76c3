"""Does a pool have the kind of units that a replica needs, and if not: what is missing, in words.

Input: a Pool and Resources. Output: "" or a Misfit. How many units are free is not asked here but
in `policy.packing`. The agent on Kubernetes chooses nodes by it too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from federation.contract.capacity import Pool, Resources, Sharing
from federation.contract.requirements import capability

# Units of these share one device with units that somebody else may hold.
_SHARED = frozenset({Sharing.TIME_SLICING, Sharing.MPS, Sharing.UNKNOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Why a pool is of the wrong kind. The further the `step`, the more of the needs it meets;
    among equal ones a higher `value` is nearer."""

    step: int
    value: float
    words: str  # completes "the replica ..."


def misfit(pool: Pool, needs: Resources) -> Misfit | None:
    """Return the first need that the units of a pool do not meet; None = all are met."""
    if _is_plain(needs) and pool.sharing is Sharing.NONE and needs.memory_mib <= pool.memory_mib:
        return None  # most often, and quickly: it is asked of each kind of pool in the fleet
    for step, check in enumerate(_CHECKS):
        if found := check(pool, needs):
            value, words = found
            return Misfit(step=step, value=value, words=words)
    return None


def _is_plain(needs: Resources) -> bool:
    """Whether only a number of GPUs and their memory are asked for."""
    return not (
        needs.vendor
        or needs.products
        or needs.architecture
        or needs.min_compute_capability
        or needs.profile
        or needs.exclusive
    )


def nearest_misfit(pools: Iterable[Pool], needs: Resources) -> str:
    """Return what is missing at the pool that comes nearest, in words; "" without pools."""
    found = [each for each in (misfit(pool, needs) for pool in pools) if each]
    if not found:
        return ""
    return max(found, key=lambda each: (each.step, each.value)).words


_Found = tuple[float, str] | None


def _vendor(pool: Pool, needs: Resources) -> _Found:
    if not needs.vendor or pool.vendor.lower() == needs.vendor.lower():
        return None
    return 0, f"needs GPUs of {needs.vendor}, has some of {pool.vendor or 'an unknown vendor'}"


def _architecture(pool: Pool, needs: Resources) -> _Found:
    if not needs.architecture or pool.architecture.lower() == needs.architecture.lower():
        return None
    return 0, f"needs architecture {needs.architecture}, has {pool.architecture or 'unknown ones'}"


def _product(pool: Pool, needs: Resources) -> _Found:
    if not needs.products or any(_like(pool.product, each) for each in needs.products):
        return None
    return 0, f"needs product {' or '.join(needs.products)}, has {pool.product or 'unknown ones'}"


def _profile(pool: Pool, needs: Resources) -> _Found:
    if not needs.profile or _like(pool.profile, needs.profile):
        return None
    return 0, f"needs a partition {needs.profile}, has {pool.profile or 'whole GPUs'}"


def _capability(pool: Pool, needs: Resources) -> _Found:
    if not needs.min_compute_capability:
        return None
    wanted = f"needs compute capability {needs.min_compute_capability}"
    have = capability(pool.compute_capability)
    if have is None:
        return -1, f"{wanted}, that of its GPUs is not known{at(pool)}"
    if have >= (capability(needs.min_compute_capability) or ()):
        return None
    value = have[0] + have[1] / 1000
    return value, f"{wanted}, the highest is {pool.compute_capability}{at(pool)}"


def _sharing(pool: Pool, needs: Resources) -> _Found:
    if needs.exclusive and pool.sharing in _SHARED:
        return 0, f"needs GPUs of its own, those{at(pool)} are shared ({pool.sharing})"
    if needs.gpus > 1 and pool.sharing in _SHARED:
        # More turns on one device are not more devices.
        return 0, f"needs {needs.gpus} GPUs, the units{at(pool)} share devices ({pool.sharing})"
    if needs.gpus > 1 and pool.sharing is Sharing.PARTITION and pool.vendor.lower() == "nvidia":
        # CUDA: a process can use one MIG instance only (MIG user guide, "CUDA visible devices").
        return 0, f"needs {needs.gpus} GPUs, a process can use one MIG instance only{at(pool)}"
    return None


def _memory(pool: Pool, needs: Resources) -> _Found:
    if not pool.memory_mib or pool.memory_mib >= needs.memory_mib:
        return None
    have = gib(pool.memory_mib)
    return pool.memory_mib, f"needs {gib(needs.memory_mib)}, largest block is {have}{at(pool)}"


_CHECKS: tuple[Callable[[Pool, Resources], _Found], ...] = (
    _vendor,
    _architecture,
    _product,
    _profile,
    _capability,
    _sharing,
    _memory,
)


def _like(text: str, pattern: str) -> bool:
    return fnmatchcase(text.lower(), pattern.lower())


def at(pool: Pool) -> str:
    """Return " on NODE", or "" where the node has no name."""
    return f" on {pool.node}" if pool.node else ""


def gib(mib: int) -> str:
    """Return a size in MiB as people say it."""
    return f"{mib / 1024:.3g} GiB" if mib >= 1024 else f"{mib} MiB"


def kinds_of(pools: Iterable[Pool]) -> list[tuple[Pool, list[int]]]:
    """Return one pool of each kind, and the numbers of all of its kind: all of them, or none, are
    a misfit."""
    found: dict[tuple[object, ...], tuple[Pool, list[int]]] = {}
    for number, pool in enumerate(pools):
        key = (
            pool.vendor,
            pool.product,
            pool.memory_mib,
            pool.architecture,
            pool.compute_capability,
            pool.profile,
            pool.sharing,
        )
        found.setdefault(key, (pool, []))[1].append(number)
    return list(found.values())
