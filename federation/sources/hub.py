"""Models of the Hugging Face Hub, or of a mirror of it (HF_ENDPOINT): hf://org/model@revision.

Input: a repository and a branch, tag or commit ("main" by default); the token that `hf auth login`
or HF_TOKEN left. Output: its files at one commit. The library's own cache is used: what it has is
not fetched again, and what broke off goes on.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from federation.contract.errors import (
    FederationError,
    Invalid,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from federation.sources.base import Opened, Progress, Wanted, client_library
from federation.sources.uri import SourceUri, malformed
from federation.sources.view import check_names, linked

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NOT_OF_THE_MODEL = (".gitattributes", ".gitignore")
_OTHER_KINDS = ("datasets", "spaces", "models")


@contextmanager
def open_hub(
    uri: SourceUri, *, cache: Path, progress: Progress, wanted: Wanted
) -> Iterator[Opened]:
    """Fetch a snapshot of a repository. Raises NotFound (no such repository or revision),
    PermissionDenied (private or gated), Unavailable, Invalid."""
    repository, revision = _parts(uri)
    hub = _Hub(uri)
    info = hub.info(repository, revision)
    bare = f"hf://{repository}"
    commit = str(info.sha or "")
    if not _COMMIT.fullmatch(commit):
        raise Invalid(f"{bare} does not say which commit {revision!r} is: {commit[:80]!r}.")
    sizes = {
        str(each.rfilename): int(each.size or 0)
        for each in info.siblings or ()
        if each.rfilename not in _NOT_OF_THE_MODEL
    }
    picked = check_names(wanted.pick(sizes, bare), bare)
    snapshot = hub.snapshot(
        repository, commit, picked, _cache_folder(hub, cache), _told(progress, picked, sizes)
    )
    files = {path: _real(snapshot, path, sizes[path], bare) for path in picked}
    said = {
        str(each.rfilename): str(each.lfs.sha256)
        for each in info.siblings or ()
        if getattr(each, "lfs", None) and each.rfilename in files
    }
    with linked(files, cache, bare) as directory:
        source = f"{bare}@{commit}"
        yield Opened(directory=directory, source=source, revision=commit, sha256=said)


class _Hub:
    """The library, with its errors in our words."""

    def __init__(self, uri: SourceUri) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        self.library = client_library("huggingface_hub", "hf", uri.scheme)
        self.constants = client_library("huggingface_hub.constants", "hf", uri.scheme)
        self._errors = client_library("huggingface_hub.errors", "hf", uri.scheme)
        self._utils = client_library("huggingface_hub.utils", "hf", uri.scheme)
        self._uri = uri
        self._endpoint = os.environ.get("HF_ENDPOINT") or None
        self._utils.logging.set_verbosity_error()  # what matters is raised

    def info(self, repository: str, revision: str) -> Any:
        """Return commit and files of a revision."""
        with self._translated(repository, revision):
            api = self.library.HfApi(endpoint=self._endpoint)
            return api.model_info(repository, revision=revision, files_metadata=True, timeout=30)

    def snapshot(
        self, repository: str, commit: str, paths: list[str], folder: str, told: Any
    ) -> Path:
        """Fetch files of a commit; returns the folder of the snapshot."""
        with self._translated(repository, commit):
            return Path(
                self.library.snapshot_download(
                    repository,
                    revision=commit,
                    cache_dir=folder,
                    endpoint=self._endpoint,
                    allow_patterns=[_literal(path) for path in paths],
                    tqdm_class=_bar(self._utils.tqdm, told),
                    max_workers=4,
                )
            )

    @contextmanager
    def _translated(self, repository: str, revision: str) -> Iterator[None]:
        errors = self._errors
        try:
            yield
        except (errors.HTTPError, errors.HFValidationError, OSError) as error:
            raise self._meaning(error, repository, revision) from None

    def _meaning(self, error: Exception, repository: str, revision: str) -> FederationError:
        errors = self._errors
        where = f"hf://{repository}"
        status = getattr(getattr(error, "response", None), "status_code", 0)
        if isinstance(error, errors.RevisionNotFoundError):
            return NotFound(f"{where} has no revision {revision!r}.")
        if isinstance(error, errors.GatedRepoError) or status == 403:
            return PermissionDenied(
                f"{where} is gated.", hint="Accept its terms on its page, and set HF_TOKEN."
            )
        if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
            return NotFound(
                f"there is no model {where}, or it is private.",
                hint="Check its name; for a private one set HF_TOKEN, or `hf auth login`.",
            )
        if isinstance(error, errors.HFValidationError):
            return malformed(self._uri, "the hub refuses the name")
        words = (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
        return Unavailable(f"cannot fetch {where}: {words}.", hint="Push again: it goes on there.")


def _parts(uri: SourceUri) -> tuple[str, str]:
    repository, at, revision = uri.body.partition("@")
    first, *rest = repository.split("/")
    if first in _OTHER_KINDS and rest:
        raise malformed(uri, f"it names {first}, and every source is a model")
    if not _REPOSITORY.fullmatch(repository) or ".." in uri.body or "--" in repository:
        raise malformed(uri, "it is not org/model, perhaps with @revision")
    if at and not revision:
        raise malformed(uri, "the revision after '@' is missing")
    return repository, revision or "main"


def _literal(path: str) -> str:
    """Return a shell pattern that matches this path alone."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def _cache_folder(hub: _Hub, cache: Path) -> str:
    """Return the library's own cache if we can make hard links from there, else one below ours."""
    usual = Path(hub.constants.HF_HUB_CACHE)
    try:
        usual.mkdir(parents=True, exist_ok=True)
        if usual.stat().st_dev == cache.stat().st_dev:
            return str(usual)
    except OSError:
        pass
    return str(cache / "hf")


def _real(snapshot: Path, path: str, size: int, source: str) -> Path:
    """Return the file behind a snapshot's link; it must lie in the cache, and be whole."""
    real = (snapshot / path).resolve(strict=True)
    if not real.is_relative_to(snapshot.resolve().parent.parent) or not real.is_file():
        raise Invalid(f"the cache of {source} has a link that leads out of it: {path!r}.")
    if real.stat().st_size != size:
        raise Invalid(
            f"{path!r} of {source} has {real.stat().st_size} bytes, and should have {size}.",
            hint=f"Remove {real} and push again.",
            reason="wrong-bytes",
        )
    return real


def _told(progress: Progress, picked: list[str], sizes: dict[str, int]) -> Any:
    total = sum(sizes[path] for path in picked)
    return lambda done: progress(min(done, total), total, "")


def _bar(base: Any, told: Any) -> Any:
    """Return a progress bar class that draws nothing, and tells how many bytes have come."""

    class Bar(base):  # type: ignore[misc]  # the library's base class, imported late
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._bytes = kwargs.get("unit") == "B"
            self._here = int(kwargs.get("initial") or 0)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if self._bytes and n:
                self._here += int(n)
                told(self._here)
            return None

    return Bar
