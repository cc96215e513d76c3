"""A directory of hard links to fetched files: a package without a second copy of its bytes.

Input: files by their path in the package, from whoever calls itself a hub. Output: a directory with
real files that is gone when its context ends; Invalid for paths that lead out of it.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from federation.contract.errors import Invalid
from federation.contract.manifest import MAX_FILES
from federation.contract.package import is_safe_path


def check_names(paths: Iterable[str], source: str) -> list[str]:
    """Return the paths if they can make up a package; raises Invalid."""
    found = list(paths)
    for path in found:
        if not is_safe_path(path) or not path.isprintable():
            raise Invalid(
                f"{source} names a file that no package can hold: {path[:120]!r}.",
                reason="unsafe-path",
            )
    if len(set(found)) != len(found):
        raise Invalid(f"{source} has two files of the same name.")
    if len(found) > MAX_FILES:
        raise Invalid(
            f"a package has at most {MAX_FILES} files; {source} has {len(found)}.",
            hint="Choose some with --include.",
        )
    return found


@contextmanager
def linked(files: Mapping[str, Path], cache: Path, source: str) -> Iterator[Path]:
    """Yield a directory below `cache`, in which each file is a hard link to the given one (links
    are followed); they must be on the same file system as `cache`."""
    check_names(files, source)
    folder = cache / "views"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    root = Path(tempfile.mkdtemp(dir=folder))
    try:
        for path, target in files.items():
            place = root / path
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.hardlink_to(target.resolve(strict=True))
            except (FileExistsError, NotADirectoryError):
                raise Invalid(f"{source} has {path!r} as a file and as a folder.") from None
        yield root
    finally:
        shutil.rmtree(root)
