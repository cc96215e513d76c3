"""The files of a package in a directory, and how each is opened.

Input: a directory that somebody wants to push. Output: relative paths; open files; Invalid for what
no package can hold. Links are refused: they lead out of the package, or change what it holds.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.manifest import MAX_FILES
from federation.contract.package import is_safe_path

_SKIPPED = "__pycache__"


def list_files(directory: Path) -> dict[str, int]:
    """Return the sizes in bytes of all files below `directory`, by relative path, in order.

    Raises NotFound, and Invalid for links, special files, too many files and unusable names.
    """
    if not directory.is_dir():
        raise NotFound(f"{str(directory)!r} is not a directory.")
    sizes: dict[str, int] = {}
    for path in _walk(directory):
        relative = path.relative_to(directory).as_posix()
        with readable(relative):
            status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise _odd(relative)
        if not is_safe_path(relative) or not relative.isprintable():
            raise Invalid(f"{relative!r} cannot be the name of a file in a package.")
        sizes[relative] = status.st_size
        if len(sizes) > MAX_FILES:
            raise Invalid(f"a package has at most {MAX_FILES} files; {str(directory)!r} has more.")
    return dict(sorted(sizes.items()))


def _walk(directory: Path) -> Iterator[Path]:
    """Yield what is no folder; links to folders, too."""

    def refuse(error: OSError) -> None:
        raise Invalid(f"{error.filename!r} cannot be read: {error.strerror}.") from error

    for root, folders, names in os.walk(directory, onerror=refuse):
        folders[:] = sorted(name for name in folders if name != _SKIPPED)
        links = [name for name in folders if Path(root, name).is_symlink()]
        yield from (Path(root, name) for name in (*names, *links))


def open_file(directory: Path, relative: str) -> BinaryIO:
    """Open a file for unbuffered reading; raises Invalid if it is none or cannot be read, Conflict
    if it is gone."""
    with readable(relative):
        file = open(directory / relative, "rb", buffering=0, opener=_opener)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _odd(relative)
    return file


@contextmanager
def readable(relative: str) -> Iterator[None]:
    """Turn what the system says about a file into Invalid, or Conflict if the file is gone."""
    try:
        yield
    except FileNotFoundError:
        raise changed(relative) from None
    except OSError as error:
        if error.errno == errno.ELOOP:  # O_NOFOLLOW met a link
            raise _odd(relative) from None
        raise Invalid(f"{relative!r} cannot be read: {error.strerror}.") from None


def read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    """Return `length` bytes from `offset`, fewer at the end of the file."""
    parts = bytearray()
    while part := os.pread(file.fileno(), length - len(parts), offset + len(parts)):
        parts += part
    return bytes(parts)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _odd(relative: str) -> Invalid:
    return Invalid(
        f"{relative!r} is a link or a special file.", hint="Put the file itself into the package."
    )


def changed(relative: str) -> Conflict:
    """Return the refusal of a file that is not what it was when it was read first."""
    return Conflict(
        f"{relative!r} was changed while it was read.",
        hint="Push again when nothing writes to the directory.",
    )
