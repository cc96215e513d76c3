"""One way to open any source of packages.

Input: what a user wrote, e.g. `./filetype` or `hf://org/model@main`. Output: a context that yields
an Opened: a directory on this disk, pinned to one revision, gone afterwards unless it is the
user's. What was fetched stays in `cache` for a week: an interrupted push, and the next version, go
on from there.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from federation.contract.errors import Exhausted, Invalid, NotFound
from federation.contract.package import PACKAGE_FILE
from federation.runtime.clock import Clock, SystemClock
from federation.sources.base import Opened, Progress, Wanted
from federation.sources.blobs import BlobCache
from federation.sources.bucket import open_bucket
from federation.sources.hub import open_hub
from federation.sources.mlflow_registry import open_mlflow
from federation.sources.oci import open_oci
from federation.sources.uri import SourceUri, parse_source

KEPT_FOR = timedelta(days=7)
_Opener = Callable[..., AbstractContextManager[Opened]]
_REMOTE: dict[str, _Opener] = {
    "s3": open_bucket,
    "gs": open_bucket,
    "az": open_bucket,
    "hf": open_hub,
    "oci": open_oci,
    "mlflow": open_mlflow,
}


@contextmanager
def open_source(
    uri: str,
    *,
    cache: Path,
    progress: Progress | None = None,
    package_file: Path | None = None,
    wanted: Wanted | None = None,
    clock: Clock | None = None,
) -> Iterator[Opened]:
    """Bring a package onto this disk and yield it. `package_file` is taken as its model.yaml.

    Raises Invalid (a bad URI, a missing extra, an unsafe name), NotFound, PermissionDenied,
    Conflict (changed while it was fetched), Unavailable, Exhausted (no space in `cache`).
    """
    source, wanted = parse_source(uri), wanted or Wanted()
    extra = {PACKAGE_FILE: _existing(package_file)} if package_file else {}
    if source.scheme == "file":
        if wanted:
            raise Invalid("files of a directory cannot be chosen.", hint="Push another directory.")
        yield replace(_local(source), extra_files=extra)
        return
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(cache, ((clock or SystemClock()).utc() - KEPT_FOR).timestamp())
    except OSError as error:
        raise Exhausted(f"cannot use {cache} as a cache: {error.strerror}.") from None
    fetch = _REMOTE[source.scheme]
    with fetch(source, cache=cache, progress=progress or _silent, wanted=wanted) as opened:
        yield replace(opened, extra_files=extra)


def _sweep(cache: Path, before_s: float) -> None:
    """Remove what was last used before that time (Unix seconds), and what a crash left behind."""
    BlobCache(cache).sweep(before_s)
    for folder in (*cache.glob("views/*"), *cache.glob("mlflow/*")):
        if folder.stat().st_mtime < before_s:
            shutil.rmtree(folder, ignore_errors=True)


def _local(source: SourceUri) -> Opened:
    directory = Path(source.body)
    if not directory.is_dir():
        kind = "is a file" if directory.exists() else "does not exist"
        raise NotFound(f"{source.body!r} {kind}.", hint="A package is a directory with model.yaml.")
    return Opened(directory=directory, source=directory.resolve().as_uri(), revision="")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise NotFound(f"there is no file {str(path)!r}.")
    return path.resolve()


def _silent(_done: int, _total: int, _what: str) -> None:
    pass
