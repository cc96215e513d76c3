"""Models of an MLflow registry: mlflow://name@alias or mlflow://name/version.

Input: a registered model; MLFLOW_TRACKING_URI (or MLFLOW_REGISTRY_URI) and what else MLflow reads
from the environment. Output: the artifacts of one version. A file that was fetched whole is not
fetched again; one that broke off is (MLflow's client cannot go on inside of a file).
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from federation.contract.errors import FederationError, Invalid, NotFound, Unavailable
from federation.contract.manifest import MAX_FILES
from federation.sources.base import Opened, Progress, Wanted, client_library
from federation.sources.uri import SourceUri, malformed
from federation.sources.view import check_names

_VERSION = re.compile(r"[1-9][0-9]{0,9}")


@contextmanager
def open_mlflow(
    uri: SourceUri, *, cache: Path, progress: Progress, wanted: Wanted
) -> Iterator[Opened]:
    """Fetch the artifacts of a model version. Raises NotFound, Unavailable, Invalid."""
    name, version, alias = _parts(uri)
    registry = _Registry(uri)
    found = registry.version(name, version, alias)
    source = f"mlflow://{name}/{found.number}"
    artifacts = registry.artifacts(found.location)
    sizes = registry.files(artifacts)
    picked = check_names(wanted.pick(sizes, source), source)
    # Nothing promises that a location keeps its bytes: what was fetched serves one push only.
    folder = cache / "mlflow" / found.key
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    done, total = 0, sum(sizes[path] for path in picked)
    for path in picked:
        registry.fetch(artifacts, path, sizes[path], folder)
        done += sizes[path]
        progress(done, total, path)
    for path in set(_files_below(folder)) - set(picked):
        (folder / path).unlink()
    yield Opened(directory=folder, source=source, revision=found.number)
    shutil.rmtree(folder)  # not when the push failed: then the next one goes on


@dataclass(frozen=True, slots=True)
class _Version:
    number: str
    location: str
    key: str


class _Registry:
    """The library, with its errors in our words."""

    def __init__(self, uri: SourceUri) -> None:
        for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"):
            os.environ.setdefault(name, "true" if "DISABLE" in name else "false")
        library = client_library("mlflow", "mlflow", uri.scheme)
        self._stores = client_library(
            "mlflow.store.artifact.artifact_repository_registry", "mlflow", uri.scheme
        )
        self._errors = client_library("mlflow.exceptions", "mlflow", uri.scheme)
        self._uri = uri
        with self._translated():
            self._client = library.MlflowClient()

    def version(self, name: str, version: str, alias: str) -> _Version:
        """Return a version by its number, or by an alias of the model."""
        with self._translated():
            if alias:
                held = self._client.get_model_version_by_alias(name, alias)
            else:
                held = self._client.get_model_version(name, version)
            number = str(held.version)
            location = str(self._client.get_model_version_download_uri(name, number))
        told = (name, number, str(held.creation_timestamp), location)
        return _Version(number, location, blake3("\x00".join(told).encode()).hexdigest())

    def artifacts(self, location: str) -> Any:
        """Return what lists and fetches the artifacts below a location."""
        with self._translated():
            return self._stores.get_artifact_repository(location)

    def files(self, artifacts: Any) -> dict[str, int]:
        """Return the sizes of all artifacts, by path."""
        sizes: dict[str, int] = {}
        folders = [""]
        while folders:
            folder = folders.pop()
            with self._translated():
                listed = artifacts.list_artifacts(folder or None)
            for each in listed:
                path = str(each.path)
                check_names([path], str(self._uri))
                if folder and not path.startswith(f"{folder}/"):
                    raise Invalid(f"{self._uri} lists {path!r} in the folder {folder!r}.")
                if each.is_dir:
                    folders.append(path)
                else:
                    sizes[path] = int(each.file_size or 0)
            if len(sizes) + len(folders) > MAX_FILES:
                raise Invalid(f"{self._uri} has more than {MAX_FILES} files and folders.")
        return sizes

    def fetch(self, artifacts: Any, path: str, size: int, folder: Path) -> None:
        """Bring one artifact to its place in `folder`, unless it is there."""
        place = folder / path
        if place.is_file() and place.stat().st_size == size:
            return
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            with self._translated():
                got = artifacts.download_artifacts(path, dst_path=scratch)
            file = Path(got)
            if file.is_symlink() or not file.is_file():
                raise Invalid(f"{self._uri} has {path!r}, which is not a file.")
            place.parent.mkdir(parents=True, exist_ok=True)
            if file.is_relative_to(scratch):
                file.rename(place)
            else:  # a registry on this machine answers with its own file
                shutil.copyfile(file, place)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._errors.MlflowException as error:
            raise self._meaning(error) from None
        except OSError as error:  # requests' errors are, too
            raise Unavailable(f"cannot read {self._uri}: {_first_line(error)}.") from None

    def _meaning(self, error: Any) -> FederationError:
        code, words = str(getattr(error, "error_code", "")), _first_line(error)
        if code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND") or "not found" in words.lower():
            return NotFound(f"the registry has no {self._uri}: {words}.")
        if code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"):
            return Unavailable(f"cannot read {self._uri}: {words}.")
        return Invalid(f"the registry refuses {self._uri}: {words}.")


def _parts(uri: SourceUri) -> tuple[str, str, str]:
    name, at, alias = uri.body.partition("@")
    if at:
        if not name or "/" in name or not alias:
            raise malformed(uri, "it is not name@alias")
        return name, "", alias
    name, _, version = uri.body.partition("/")
    if not name or not _VERSION.fullmatch(version):
        raise malformed(uri, "a version is a number; an alias follows '@'")
    return name, version, ""


def _files_below(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
