"""The packages on the agent's disk. Blocking calls, from many threads.

Input: what the control plane wants here. Output: folders that engines load from, and folders
that become such. Only `find` and `Staging.publish` name a package to anybody, and only one that was
whole, verified and durable when it got its name.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from edge_agent.policy.eviction import Key, OnDisk, decide
from edge_agent.policy.scrub import Checked
from edge_agent.sync.breath import Breath
from edge_agent.sync.faults import Faults
from edge_agent.sync.layout import CHECKED, PACKAGES, RELEASE, USED, Layout, PackageName
from edge_agent.sync.reuse import Library
from edge_agent.sync.shelving import Order, order_of, read_order, unshelve
from edge_agent.sync.staging import Outside, Staging
from edge_agent.sync.sweeping import is_damage, sweep
from edge_agent.sync.tree import compare
from edge_agent.sync.usage import checked_at, disk_of, on_disk, orders, published
from edge_agent.sync.views import PieceReader, PublishedReader
from federation.contract.errors import AlreadyExists, Invalid
from federation.contract.sync import Disk

_log = logging.getLogger(__name__)
_MAX_READERS = 8  # each holds the chunk list of a package


def _unpaced(fd: int, offset: int, length: int) -> None:
    """Read as fast as the disk gives."""


class Shelf:
    """`budget_bytes` bounds what packages may occupy (0 = what the disk has); it may be set."""

    def __init__(self, root: Path, *, budget_bytes: int = 0, breath: Breath | None = None) -> None:
        self.budget_bytes = budget_bytes
        self.faults = Faults()
        self._breath = breath or Breath()
        self._layout = Layout(root)
        self._lock = threading.Lock()
        self._running: dict[str, Staging] = {}
        self._readers: dict[str, PublishedReader] = {}
        self._verified: set[str] = set()  # packages of which this process hashed every byte

    def __repr__(self) -> str:
        return f"Shelf({self._layout.root}, {len(self._running)} being fetched, {self.faults})"

    # ------------------------------------------------------------ one package

    def find(self, model: str, version: int, digest: str) -> Path | None:
        """Return the folder of a published package, None if it is not here; raises Invalid."""
        order = published(self._layout, PackageName(model, version, digest))
        return self._path(order) if order else None

    def documents(self, model: str, version: int, digest: str) -> tuple[bytes, bytes] | None:
        """Return manifest and release (b"" = none) of a published package."""
        order = published(self._layout, PackageName(model, version, digest))
        return (order.manifest_bytes, order.release_bytes) if order else None

    def keep_release(self, model: str, version: int, digest: str, release: bytes) -> None:
        """Replace the release beside a published package; raises Unavailable."""
        name = PackageName(model, version, digest)
        with self._told(f"writing the release of {name}"), self._layout.model(PACKAGES, model) as h:
            h.write(name.folder + RELEASE, release)

    def open(
        self,
        model: str,
        version: int,
        manifest_bytes: bytes,
        release_bytes: bytes = b"",
        *,
        digest: str,
    ) -> Staging:
        """Begin, or go on with, putting a version together.

        Raises Invalid if the manifest is not that of the digest, AlreadyExists if the package is
        published, Conflict if somebody else is at it, Unavailable if the disk fails.
        """
        name = PackageName(model, version, digest)
        order = order_of(name, manifest_bytes, release_bytes)
        with self._told(f"opening the staging folder of {name}"):
            lock = self._layout.lock(name)
            if published(self._layout, name):
                self._layout.unlock(name, lock)
                raise AlreadyExists(f"{name} is on this disk already.")
            try:
                # A version is most like the others of its model.
                known = sorted(orders(self._layout), key=lambda o: o.name.model != model)
                library = Library(self._layout, [(o.name, o.manifest) for o in known])
                outside = Outside(library, self.faults, self._breath)
                staging = Staging(order, self._layout, outside, lock)
            except BaseException:
                os.close(lock)
                raise
        with self._lock:
            self._running[digest] = staging
        staging.on_closed = lambda: self._ended(staging)
        return staging

    def make_room(self, staging: Staging, keep: Mapping[Key, str]) -> tuple[OnDisk, ...]:
        """Remove what must go so that the rest of a staging fits, and return it; call it after
        `resume` and `link`. `keep` is from `policy.eviction.protected`. Raises Exhausted, in words.
        """
        packages = self.packages()
        removed = decide(packages, keep, self.disk(), staging.outstanding_bytes, staging.title)
        for package in removed:
            self.remove(*package.key)
        return removed

    def verify(
        self,
        model: str,
        version: int,
        digest: str,
        read: Callable[[int, int, int], None] = _unpaced,
    ) -> None:
        """Hash every byte of a published package again. `read` is told descriptor, offset and
        length before each block is read.

        Raises Invalid if it is not what the digest says; the package is then gone. Raises
        Unavailable, and what `read` raises; then it stays.
        """
        name = PackageName(model, version, digest)
        try:
            self._compare(name, read)
        except (Invalid, OSError) as error:
            told = error.message if isinstance(error, Invalid) else f"{error.strerror}."
            if isinstance(error, OSError):
                unavailable = self.faults.saw(error, f"reading {name}")
                if not is_damage(error):
                    raise unavailable from None
            self.remove(model, version, digest)
            raise Invalid(f"the package on disk is damaged: {told}") from None
        with self._lock:
            self._verified.add(digest)

    def remove(self, model: str, version: int, digest: str) -> None:
        """Remove a package, if it is there; it is gone by one rename. Raises Unavailable."""
        name = PackageName(model, version, digest)
        with self._lock:
            self._readers.pop(digest, None)
            self._verified.discard(digest)
        with (
            self._told(f"removing {name}"),
            contextlib.suppress(FileNotFoundError),
            self._layout.model(PACKAGES, model) as home,
        ):
            unshelve(self._layout, home, name.folder)

    def touch(self, model: str, version: int, digest: str) -> None:
        """Note that an engine uses a package, or just stopped using it: for eviction."""
        self._stamp(PackageName(model, version, digest), USED)

    def note_check(self, model: str, version: int, digest: str) -> None:
        """Note that every byte of a package was found right."""
        self._stamp(PackageName(model, version, digest), CHECKED)

    def _stamp(self, name: PackageName, kind: str) -> None:
        with contextlib.suppress(OSError), self._layout.model(PACKAGES, name.model) as home:
            if home.stat(name.folder):
                fd = home.open(name.folder + kind, os.O_WRONLY | os.O_CREAT, 0o644)
                os.utime(fd)
                os.close(fd)

    # ------------------------------------------------------------ all of them

    def packages(self) -> tuple[OnDisk, ...]:
        """Return the published packages and what they occupy; raises Unavailable."""
        found = []
        with self._told("listing the packages"):
            for order in orders(self._layout):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    found.append(on_disk(self._layout, order))
        return tuple(found)

    def checks(self) -> tuple[Checked, ...]:
        """Return when each package was last found right: at the latest when it was published;
        raises Unavailable."""
        with self._told("listing the packages"):
            names = [order.name for order in orders(self._layout)]
            return tuple(Checked(key=n.key, at=checked_at(self._layout, n)) for n in names)

    def disk(self) -> Disk:
        """Return what packages, staging and trash occupy (shared files once), and what is free;
        raises Unavailable."""
        with self._told("measuring the packages"):
            return disk_of(self._layout, self.budget_bytes)

    def sweep(self, wanted: Collection[Key]) -> tuple[str, ...]:
        """Clear up after a crash: call it once, at start, with all that is to be here.

        Returns in words each package that was removed because it had no valid manifest: somebody
        should look why. Raises Unavailable.
        """
        with self._told("clearing up"):
            alarms = sweep(self._layout, [PackageName(*key) for key in wanted])
        for alarm in alarms:
            _log.warning("%s", alarm)
        return alarms

    def peer_view(self, digest: str) -> PieceReader | None:
        """Return the pieces of a package that is here or on its way, None if it is neither."""
        with self._lock:
            if view := self._running.get(digest) or self._readers.get(digest):
                return view
        with contextlib.suppress(OSError):
            for order in orders(self._layout):
                if order.name.digest == digest:
                    return self._add_reader(order)
        return None

    # ------------------------------------------------------------ inside

    def _told(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return self.faults.told(doing)

    def _path(self, order: Order) -> Path:
        return self._layout.root / PACKAGES / order.name.model / order.name.folder

    def _compare(self, name: PackageName, read: Callable[[int, int, int], None]) -> None:
        with self._layout.model(PACKAGES, name.model) as home:
            order = read_order(home, name.model, name.folder)
            if order.name != name:
                raise Invalid("its manifest is damaged.")
            with home.folder(name.folder) as package:
                compare(package, order.manifest.files, read)

    def _ended(self, staging: Staging) -> None:
        with self._lock:
            self._running.pop(staging.digest, None)
            if staging.is_published:
                self._verified.add(staging.digest)

    def _add_reader(self, order: Order) -> PublishedReader:
        digest = order.name.digest
        reader = PublishedReader(
            self._path(order), order.manifest, verified=digest in self._verified
        )
        with self._lock:
            while len(self._readers) >= _MAX_READERS:
                del self._readers[next(iter(self._readers))]
            return self._readers.setdefault(digest, reader)
