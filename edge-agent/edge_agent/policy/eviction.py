"""Which packages leave the disk so that another fits, and in words why one does not fit.

Input: the packages on disk with the blocks that their files occupy, what must stay, what is needed.
Output: the packages to remove, least recently used first, and no more of them than needed. Packages
share files by hard links: a block is free when the last link to it is gone, so that is computed.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from federation.contract.errors import Exhausted
from federation.contract.sync import Disk

RESERVE = 0.05  # of what is needed, for what the file system itself needs
MIN_RESERVE_BYTES = 64 << 20
TOO_LARGE = "disk-budget"
Key = tuple[str, int, str]  # model, version, digest


@dataclass(frozen=True, slots=True)
class Inode:
    """A file on disk: the space it occupies, how many links it has, and how many of them are in
    one package."""

    number: int
    used_bytes: int
    links: int
    links_here: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDisk:
    """A published package. `size_bytes` is what its manifest says; `last_used` is in Unix seconds,
    `ever_used` whether an engine had it."""

    model: str
    version: int
    digest: str
    size_bytes: int = 0
    last_used: float = 0.0
    ever_used: bool = False
    inodes: tuple[Inode, ...] = ()

    @property
    def key(self) -> Key:
        """Its identity."""
        return self.model, self.version, self.digest

    @property
    def title(self) -> str:
        """Its name for people."""
        return f"{self.model}@{self.version}"


def protected(
    packages: Iterable[OnDisk], assigned: Collection[Key], prefetched: Collection[Key] = ()
) -> dict[Key, str]:
    """Return what must stay and why: what is assigned, what is prefetched, and of each assigned
    model the version that served last before, for a rollback."""
    reasons = dict.fromkeys(prefetched, "prefetched") | dict.fromkeys(assigned, "assigned")
    models = {model for model, _, _ in assigned}
    newest: dict[str, OnDisk] = {}
    for package in packages:
        if package.model in models and package.key not in reasons and package.ever_used:
            other = newest.get(package.model)
            if other is None or _age(other) < _age(package):
                newest[package.model] = package
    return reasons | {package.key: "kept for a rollback" for package in newest.values()}


def decide(
    packages: Sequence[OnDisk],
    keep: Mapping[Key, str],
    disk: Disk,
    needed_bytes: int,
    title: str = "a package",
) -> tuple[OnDisk, ...]:
    """Return what to remove so that `needed_bytes` more fit on the disk and into its budget.

    Raises Exhausted, which says in words what is in the way; then nothing should be removed.
    """
    chosen: list[OnDisk] = []
    for package in sorted((p for p in packages if p.key not in keep), key=_age):
        if not _lacking(disk, needed_bytes, freed_bytes(chosen)):
            break
        chosen.append(package)
    if lacking := _lacking(disk, needed_bytes, freed_bytes(chosen)):
        raise Exhausted(
            f"{title} does not fit: {lacking}, {_rest(packages, keep, chosen)}.",
            hint="Raise the disk budget, free space, or retire a model.",
            reason=TOO_LARGE,
        )
    for package in reversed(chosen[:]):  # what freed nothing by its end may stay
        fewer = [other for other in chosen if other is not package]
        if not _lacking(disk, needed_bytes, freed_bytes(fewer)):
            chosen = fewer
    return tuple(chosen)


def freed_bytes(packages: Iterable[OnDisk]) -> int:
    """Return what becomes free when all of these packages are removed."""
    gone: Counter[int] = Counter()
    known: dict[int, Inode] = {}
    for package in packages:
        for inode in package.inodes:
            gone[inode.number] += inode.links_here
            known[inode.number] = inode
    return sum(inode.used_bytes for n, inode in known.items() if gone[n] >= inode.links)


def reserve_bytes(needed_bytes: int) -> int:
    """Return what must stay free beside a package."""
    return max(MIN_RESERVE_BYTES, int(needed_bytes * RESERVE)) if needed_bytes else 0


def _age(package: OnDisk) -> tuple[float, str, int, str]:
    return (package.last_used, *package.key)


def _lacking(disk: Disk, needed: int, freed: int) -> str:
    """Return in words what is too small, "" if nothing is."""
    want, free = needed + reserve_bytes(needed), disk.free_bytes + freed
    if want > free:
        told = f"it needs {_size(want)} with a reserve, and the disk would have {_size(free)} free"
        return told if freed else told.replace("would have", "has")
    used = disk.used_bytes - freed
    if disk.budget_bytes and used + needed > disk.budget_bytes:
        budget = _size(disk.budget_bytes)
        return f"it needs {_size(needed)}, and {_size(used)} of the budget of {budget} are in use"
    return ""


def _rest(packages: Sequence[OnDisk], keep: Mapping[Key, str], chosen: Sequence[OnDisk]) -> str:
    """Say what was counted as removable, and what must stay."""
    staying = [f"{p.title} ({keep[p.key]})" for p in packages if p.key in keep]
    removed = (
        f"even after removing {len(chosen)} packages that nobody needs"
        if chosen
        else "and nothing can be removed"
    )
    return f"{removed}; {', '.join(sorted(staying)) or 'no package'} must stay"


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.1f} MiB"
