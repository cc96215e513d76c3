"""The folders of model packages on the agent's disk, reached without following a symbolic link.

Input: names of models, versions, digests. Output: open folders below the agent's state directory:

    packages/<model>/<version>-<digest[:16]>/          a published package; appears by one rename
    packages/<model>/<version>-<digest[:16]>.manifest  its manifest, written before
    packages/<model>/<version>-<digest[:16]>.release   its signed release, if it has one
    packages/<model>/<version>-<digest[:16]>.used      empty; its time is that of the last use
    packages/<model>/<version>-<digest[:16]>.checked   empty; its time is that of the last check
    staging/<model>/<version>-<digest[:16]>/           a package that is being put together
    staging/<model>/<version>-<digest[:16]>.lock       held by who does that
    trash/                                             what is being deleted
"""

import contextlib
import fcntl
import itertools
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from federation.contract.errors import Conflict, Invalid
from federation.contract.names import check_model_name

PACKAGES, STAGING, TRASH = "packages", "staging", "trash"
MANIFEST, RELEASE, USED, LOCK = ".manifest", ".release", ".used", ".lock"
CHECKED = ".checked"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[0-9]{1,12}-[0-9a-f]{16}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class PackageName:
    """A version of a model by its digest (that of its manifest, hex); raises Invalid."""

    model: str
    version: int
    digest: str

    def __post_init__(self) -> None:
        check_model_name(self.model)
        if self.version < 0 or not _DIGEST.fullmatch(self.digest):
            raise Invalid(f"{self.model}@{self.version} with {self.digest!r} is no package.")

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"

    @property
    def key(self) -> tuple[str, int, str]:
        """Model, version, digest."""
        return self.model, self.version, self.digest

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"{self.version}-{self.digest[:16]}"


def is_package_folder(name: str) -> bool:
    """Whether a folder may be that of a package."""
    return _NAME.fullmatch(name) is not None


class Folder:
    """An open folder: names are looked up below its descriptor. Close it, or use it with `with`."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.fd = descriptor
        self.path = path

    def __repr__(self) -> str:
        return f"Folder({self.path})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    @classmethod
    def at(cls, path: Path) -> "Folder":
        """Open a folder that the operator named, made if missing; its own path may have links."""
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY), path)
        except FileNotFoundError:
            path.mkdir(parents=True, exist_ok=True)
            return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY), path)

    def close(self) -> None:
        """Close the descriptor; a second time does nothing."""
        descriptor, self.fd = self.fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def folder(self, name: str, *, make: bool = False) -> "Folder":
        """Open a folder inside; raises FileNotFoundError, or Invalid if it is no plain folder."""
        try:
            return self._folder(name, make=make)
        except OSError as error:
            about = self.stat(name)
            if about is None or stat.S_ISDIR(about.st_mode):
                raise
            raise Invalid(
                f"{self.path / name} is not a plain folder: {error.strerror}.",
                hint="Remove it; to use another disk, move the whole state directory.",
            ) from None

    def _folder(self, name: str, *, make: bool) -> "Folder":
        try:
            return Folder(os.open(name, _FOLDER, dir_fd=self.fd), self.path / name)
        except FileNotFoundError:
            if not make:
                raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=self.fd)
        return Folder(os.open(name, _FOLDER, dir_fd=self.fd), self.path / name)

    def below(self, path: str, *, make: bool = False) -> "Folder":
        """Open the folder in which a file with this relative path lies."""
        here = Folder(os.dup(self.fd), self.path)
        for part in PurePosixPath(path).parts[:-1]:
            with here:
                there = here.folder(part, make=make)
            here = there
        return here

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """Open a file inside; a link is refused with ELOOP."""
        return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=self.fd)

    def open_file(self, path: str) -> int:
        """Open a plain file by its relative path to read it; raises OSError, Invalid."""
        with self.below(path) as parent:
            # Without O_NONBLOCK a planted pipe would hold us for ever.
            fd = parent.open(PurePosixPath(path).name, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Invalid(f"{self.path / path} is not a plain file.")
        return fd

    def stat(self, name: str) -> os.stat_result | None:
        """Return what lies inside under a name, links not followed; None if nothing does."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """Return what lies inside, ordered."""
        return sorted(os.listdir(self.fd))

    def folders(self) -> list[str]:
        """Return the plain folders inside, ordered."""
        about = {name: self.stat(name) for name in self.names()}
        return [name for name, at in about.items() if at and stat.S_ISDIR(at.st_mode)]

    def remove(self, name: str) -> None:
        """Remove a file, a link (not what it points at) or a tree; nothing if it is not there."""
        about = self.stat(name)
        if about is None:
            return
        if stat.S_ISDIR(about.st_mode):
            shutil.rmtree(name, dir_fd=self.fd)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.fd)

    def rename(self, name: str, target: "Folder", new: str) -> None:
        """Move what lies inside to another folder; raises OSError."""
        os.rename(name, new, src_dir_fd=self.fd, dst_dir_fd=target.fd)

    def read(self, name: str, limit: int) -> bytes:
        """Return a small file; raises OSError, or Invalid if it is longer than `limit` bytes."""
        with os.fdopen(self.open_file(name), "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise Invalid(f"{self.path / name} is longer than {limit} bytes.")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Replace a small file: it is the old one or the new one, also after a power loss."""
        temporary = f".{name}.tmp"
        self.remove(temporary)
        with os.fdopen(self.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        self.rename(temporary, self, name)
        self.fsync()

    def fsync(self) -> None:
        """Make what was made, renamed or removed inside survive a power loss."""
        os.fsync(self.fd)

    def walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield all that lies below as (relative path, stat), what is inside a folder before it.
        What vanishes meanwhile is passed over."""
        for folder, names, files, fd in os.fwalk(".", topdown=False, dir_fd=self.fd):
            for name in (*files, *names):
                with contextlib.suppress(FileNotFoundError):
                    about = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    yield os.path.normpath(f"{folder}/{name}"), about


class Layout:
    """Opens the folders. All of them lie on one file system, or nothing could be renamed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"Layout({self.root})"

    @contextlib.contextmanager
    def models(self, kind: str) -> Iterator[Folder]:
        """Open `packages`, `staging` or `trash`, made if missing."""
        with Folder.at(self.root) as root, root.folder(kind, make=True) as folder:
            yield folder

    @contextlib.contextmanager
    def model(self, kind: str, model: str) -> Iterator[Folder]:
        """Open the folder of a model; raises FileNotFoundError."""
        with self.models(kind) as models, models.folder(check_model_name(model)) as folder:
            yield folder

    def make_model(self, kind: str, model: str) -> Folder:
        """Return the folder of a model; if it is new it survives a power loss."""
        with Folder.at(self.root) as root, root.folder(kind, make=True) as models:
            folder = models.folder(check_model_name(model), make=True)
            models.fsync()
            root.fsync()
            return folder

    def discard(self, parent: Folder, name: str) -> None:
        """Delete what lies in a folder under a name: it is gone by one rename, then unlinked."""
        with self.models(TRASH) as trash:
            graves = (f"{parent.path.name}-{name}-{n}" for n in itertools.count())
            grave = next(grave for grave in graves if trash.stat(grave) is None)
            try:
                parent.rename(name, trash, grave)
            except FileNotFoundError:
                return
            parent.fsync()
            trash.fsync()
            trash.remove(grave)

    def lock(self, name: PackageName) -> int:
        """Return a descriptor that holds the lock of a staging folder; raises Conflict."""
        with self.make_model(STAGING, name.model) as parent:
            while True:
                fd = parent.open(name.folder + LOCK, os.O_RDWR | os.O_CREAT)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(fd)
                    raise Conflict(f"{name} is being fetched to {parent.path} already.") from None
                # Whoever held it before may have removed the file: then this lock is of no name.
                about = parent.stat(name.folder + LOCK)
                if about is not None and about.st_ino == os.fstat(fd).st_ino:
                    return fd
                os.close(fd)

    def unlock(self, name: PackageName, fd: int) -> None:
        """Give a lock back; its file goes first, while it is still held."""
        with (
            self.models(STAGING) as models,
            contextlib.suppress(FileNotFoundError),
            models.folder(name.model) as parent,
        ):
            parent.remove(name.folder + LOCK)
        os.close(fd)
