"""Pushing a package: read, hash, ask what is missing, send it, register the version.

Input: a directory with model.yaml. Output: calls of the operator API; on a terminal, stderr shows
how far the upload is.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from federation.cli.client import ApiClient
from federation.cli.columns import size
from federation.cli.documents import Json, look_list
from federation.contract.errors import Invalid, NotFound
from federation.contract.manifest import scan_directory
from federation.contract.names import check_model_name
from federation.contract.package import PACKAGE_FILE, parse_package
from federation.contract.types import FileEntry, Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package that was read and checked. `text` is its model.yaml, which lies at `head`."""

    directory: Path
    head: Path
    text: str
    manifest: Manifest

    def path(self, entry: FileEntry) -> Path:
        """Return where a file's bytes are."""
        return self.head if entry.path == PACKAGE_FILE else self.directory / entry.path


@contextmanager
def read_package(directory: Path, name: str | None) -> Iterator[Package]:
    """Read and hash a package, under another name if given; raises NotFound or Invalid."""
    source = directory / PACKAGE_FILE
    text = _read(directory, source)
    package = parse_package(text, source=str(source))
    if name is None or name == package.name:
        manifest = scan_directory(directory, package.name)
        _check_file(directory, manifest, package.file)
        yield Package(directory=directory, head=source, text=text, manifest=manifest)
        return
    check_model_name(name)
    renamed = _renamed(text, name, source)
    with tempfile.TemporaryDirectory(prefix="fed-push-") as folder:
        head = Path(folder, PACKAGE_FILE)
        head.write_bytes(renamed.encode())
        entries = scan_directory(directory, name).files
        entry = scan_directory(Path(folder), name).files[0]
        files = tuple(entry if each.path == PACKAGE_FILE else each for each in entries)
        manifest = Manifest(model=name, files=files)
        _check_file(directory, manifest, package.file)
        yield Package(directory=directory, head=head, text=renamed, manifest=manifest)


def push_package(client: ApiClient, package: Package) -> Json:
    """Send what the control plane lacks and register the version; returns its answer."""
    manifest = package.manifest
    digests = sorted({entry.blake3 for entry in manifest.files})
    answer = client.send("POST", "api", "v1", "blobs", "missing", content={"digests": digests})
    missing = set(look_list(answer, "missing"))
    entries = {entry.blake3: entry for entry in manifest.files if entry.blake3 in missing}
    progress = _Progress(sum(entry.size for entry in entries.values()))
    for digest, entry in entries.items():
        progress.start(entry)
        client.upload(package.path(entry), entry.size, progress.told, "api", "v1", "blobs", digest)
        progress.done(entry)
    progress.end()
    return client.send(
        "POST",
        *("api", "v1", "models", manifest.model, "versions"),
        content={
            "package": package.text,
            "manifest": asdict(manifest),
            "source": package.directory.resolve().as_uri(),
        },
    )


def _read(directory: Path, source: Path) -> str:
    if not directory.is_dir():
        raise NotFound(f"there is no directory {str(directory)!r}.")
    try:
        return source.read_bytes().decode()
    except FileNotFoundError:
        raise NotFound(
            f"there is no {PACKAGE_FILE} in {str(directory)!r}.",
            hint="A package is a directory with model.yaml: at least `name:` and `runtime:`.",
        ) from None
    except OSError as error:
        raise Invalid(f"cannot read {source}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise Invalid(f"{source} is not UTF-8 text.") from None


def _check_file(directory: Path, manifest: Manifest, file: str) -> None:
    if file and file not in {entry.path for entry in manifest.files}:
        raise Invalid(
            f"{directory / PACKAGE_FILE} names the file {file!r}, which is not in the package.",
            hint="Put it there, or set `file:`.",
        )


def _renamed(text: str, name: str, source: Path) -> str:
    """Return the text of a model.yaml with another name in it."""
    renamed, count = re.subn(r"(?m)^name:[^\r\n]*", f"name: {name}", text, count=1)
    if not count or parse_package(renamed, source=str(source)).name != name:
        raise Invalid(f"cannot change the name in {source}.", hint="Write `name:` on its own line.")
    return renamed


class _Progress:
    """One line on stderr that is written over and over; silent unless a person looks."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._before = 0
        self._path = ""
        self._shown = sys.stderr.isatty() and total > 0

    def start(self, entry: FileEntry) -> None:
        self._path = entry.path

    def told(self, sent: int) -> None:
        """Show how far it is, `sent` bytes into the current file."""
        if self._shown:
            line = f"{size(self._before + sent)} of {size(self._total)}  {self._path}"
            click.echo(f"\r\x1b[K{line[:100]}", err=True, nl=False)

    def done(self, entry: FileEntry) -> None:
        self._before += entry.size

    def end(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
