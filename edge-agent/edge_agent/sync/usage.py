"""Which packages are on the disk, and what they occupy there.

Input: the folders below the state directory. Output: OnDisk values for `policy.eviction`, and sums
in which a file with several names counts once. All calls block, and raise OSError.
"""

import contextlib
import os
import stat
from collections.abc import Iterator

from edge_agent.policy.eviction import Inode, OnDisk
from edge_agent.sync.layout import (
    CHECKED,
    MANIFEST,
    PACKAGES,
    STAGING,
    TRASH,
    USED,
    Layout,
    PackageName,
    is_package_folder,
)
from edge_agent.sync.shelving import Order, read_order
from federation.contract.errors import Invalid
from federation.contract.sync import Disk

_SECTOR = 512  # the unit of st_blocks


def published(layout: Layout, name: PackageName) -> Order | None:
    """Return the documents of a package, None if it is not here, or not valid."""
    try:
        with layout.model(PACKAGES, name.model) as home:
            about = home.stat(name.folder)
            if about is None or not stat.S_ISDIR(about.st_mode):
                return None
            order = read_order(home, name.model, name.folder)
    except (OSError, Invalid):
        return None
    return order if order.name == name else None


def orders(layout: Layout) -> Iterator[Order]:
    """Yield the documents of the valid packages."""
    with layout.models(PACKAGES) as models:
        for model in models.folders():
            with models.folder(model) as home:
                for folder in filter(is_package_folder, home.folders()):
                    with contextlib.suppress(OSError, Invalid):
                        yield read_order(home, model, folder)


def on_disk(layout: Layout, order: Order) -> OnDisk:
    """Return what a package occupies, and when it was used last."""
    name = order.name
    inodes: dict[int, Inode] = {}
    with layout.model(PACKAGES, name.model) as home:
        used, written = home.stat(name.folder + USED), home.stat(name.folder + MANIFEST)
        with home.folder(name.folder) as package:
            for _, at in package.walk():
                here = inodes[at.st_ino].links_here + 1 if at.st_ino in inodes else 1
                links = 1 if stat.S_ISDIR(at.st_mode) else at.st_nlink
                inodes[at.st_ino] = Inode(at.st_ino, at.st_blocks * _SECTOR, links, here)
    return OnDisk(
        model=name.model,
        version=name.version,
        digest=name.digest,
        size_bytes=order.manifest.size,
        last_used=max((at.st_mtime for at in (used, written) if at), default=0.0),
        ever_used=used is not None,
        inodes=tuple(inodes.values()),
    )


def checked_at(layout: Layout, name: PackageName) -> float:
    """Return when a package was last found right (Unix seconds), 0.0 = nobody knows."""
    with layout.model(PACKAGES, name.model) as home:
        stamps = home.stat(name.folder + CHECKED), home.stat(name.folder + MANIFEST)
    return max((at.st_mtime for at in stamps if at), default=0.0)


def disk_of(layout: Layout, budget_bytes: int) -> Disk:
    """Return what all of it occupies, and what the file system has left for us."""
    seen: dict[int, int] = {}
    for kind in (PACKAGES, STAGING, TRASH):
        with layout.models(kind) as folder:
            seen |= {at.st_ino: at.st_blocks * _SECTOR for _, at in folder.walk()}
    about = os.statvfs(layout.root)
    return Disk(
        used_bytes=sum(seen.values()),
        free_bytes=about.f_bavail * about.f_frsize,
        budget_bytes=budget_bytes,
    )
