"""Clearing up after a crash, once, at the start of the agent.

Input: the folders below the state directory, and what is wanted here. Output: only staging folders
that somebody wants, and only packages with a valid manifest; in words what should not have been.
All calls block, and raise OSError.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Collection, Iterator

from edge_agent.sync.layout import (
    LOCK,
    PACKAGES,
    STAGING,
    TRASH,
    Folder,
    Layout,
    PackageName,
    is_package_folder,
)
from edge_agent.sync.shelving import read_order, unshelve
from federation.contract.errors import Invalid

# What a package that is missing or damaged answers. Any other error, as of too many open files,
# says nothing about the package.
_DAMAGE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO, errno.EUCLEAN}
)


def is_damage(error: Invalid | OSError) -> bool:
    """Whether an error tells that a package is not what it should be."""
    return isinstance(error, Invalid) or error.errno in _DAMAGE


def sweep(layout: Layout, wanted: Collection[PackageName]) -> tuple[str, ...]:
    """Remove staging folders that nobody wants, packages without a valid manifest, and what is left
    of deletions; return in words each such package."""
    _sweep_staging(layout, {(name.model, name.folder) for name in wanted})
    alarms = tuple(_sweep_packages(layout))
    with layout.models(TRASH) as trash:
        for name in trash.names():
            trash.remove(name)
    return alarms


def _sweep_staging(layout: Layout, wanted: set[tuple[str, str]]) -> None:
    with layout.models(STAGING) as models:
        for model in models.names():
            about = models.stat(model)
            if about is None or not stat.S_ISDIR(about.st_mode):
                models.remove(model)
                continue
            with models.folder(model) as home:
                folders = home.folders()
                for name in home.names():
                    folder = name.removesuffix(LOCK)
                    needed = (model, folder) in wanted and folder in folders
                    if not needed and not _is_held(home, folder + LOCK):
                        layout.discard(home, name)


def _sweep_packages(layout: Layout) -> Iterator[str]:
    with layout.models(PACKAGES) as models:
        for model in models.folders():
            with models.folder(model) as home:
                folders = home.folders()
                for folder in folders:
                    if told := _fault_of(home, model, folder):
                        unshelve(layout, home, folder)
                        yield f"{home.path / folder} was removed: {told}"
                for name in home.names():  # documents without a package, halves of documents
                    if name not in folders and name.rpartition(".")[0] not in folders:
                        home.remove(name)


def _fault_of(home: Folder, model: str, folder: str) -> str:
    if not is_package_folder(folder):
        return "it is no package."
    try:
        read_order(home, model, folder)
    except (Invalid, OSError) as error:
        if not is_damage(error):
            raise
        return error.message if isinstance(error, Invalid) else "it has no manifest."
    return ""


def _is_held(home: Folder, lock: str) -> bool:
    try:
        fd = home.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
