"""Reading a package that shall be pushed: its model.yaml, its files, its manifest.

Input: a directory with model.yaml, perhaps files that lie elsewhere, perhaps another name. Output:
a Package whose every file was read and hashed once; later, its chunks once more.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from federation.chunking.package import PackageReader
from federation.chunking.scan import scan_directory
from federation.cli.progress import Progress
from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.formats import carries_code
from federation.contract.golden import parse_golden
from federation.contract.manifest import check_manifest, chunks_of
from federation.contract.names import check_model_name, did_you_mean
from federation.contract.package import PACKAGE_FILE, ModelPackage, parse_package
from federation.contract.types import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package that was read and checked. `text` is its model.yaml; `readers` give its chunks."""

    text: str
    manifest: Manifest
    carries_code: bool
    readers: Mapping[bytes, PackageReader]  # by the digest of the chunk

    def chunk(self, digest: bytes) -> bytes:
        """Return a chunk; raises Conflict if its file was changed since it was read first."""
        return self.readers[digest].chunk(digest)

    def width(self, digest: bytes) -> int:
        """Return the width of the floating point numbers in a chunk, 0 = something else."""
        return self.readers[digest].width(digest)


Like = Callable[[str], Manifest | None]  # a model's name to an old version of it


@contextmanager
def read_package(
    directory: Path,
    name: str | None = None,
    *,
    elsewhere: Mapping[str, Path] | None = None,
    like: Like = lambda _name: None,
) -> Iterator[Package]:
    """Read and hash a package, under another name if given; files in `elsewhere` win over those of
    the same path in the directory. Files are cut as in the manifest that `like` returns, if any.
    Raises NotFound, Invalid or Conflict, and what `like` raises."""
    beside = dict(elsewhere or {})
    head = beside.get(PACKAGE_FILE, directory / PACKAGE_FILE)
    text = _read(directory, head)
    package = parse_package(text, source=str(head))
    if name is not None and name != package.name:
        check_model_name(name)
        text = _renamed(text, name, head)
        package = parse_package(text, source=str(head))
        beside[PACKAGE_FILE] = head
    with ExitStack() as stack:
        folders = [directory]
        if beside:
            folders.append(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fed-"))))
            _lay_out(folders[1], beside, text)
        old = like(package.name)
        manifests = [_scanned(folder, package.name, old) for folder in folders]
        manifest = _merged(manifests)
        _check(manifest, package, text, directory)
        _check_golden(package, folders)
        readers: dict[bytes, PackageReader] = {}
        for folder, part in zip(folders, manifests, strict=True):
            reader = stack.enter_context(PackageReader(folder, part))
            readers |= {c.digest: reader for entry in part.files for c in chunks_of(entry)}
        code = carries_code((entry.path for entry in manifest.files), package)
        yield Package(text=text, manifest=manifest, carries_code=code, readers=readers)


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


def _renamed(text: str, name: str, source: Path) -> str:
    """Return the text of a model.yaml with another name in it."""
    renamed, count = re.subn(r"(?m)^name:[^\r\n]*", f"name: {name}", text, count=1)
    if not count or parse_package(renamed, source=str(source)).name != name:
        raise Invalid(f"cannot change the name in {source}.", hint="Write `name:` on its own line.")
    return renamed


def _lay_out(folder: Path, beside: Mapping[str, Path], text: str) -> None:
    for path, source in beside.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path == PACKAGE_FILE:
            target.write_bytes(text.encode())
        else:
            shutil.copyfile(source, target)


def _scanned(folder: Path, model: str, like: Manifest | None) -> Manifest:
    total = sum(path.lstat().st_size for path in folder.rglob("*"))
    with Progress("reading", total) as progress:
        return scan_directory(folder, model, progress=progress.add, like=like)


def _merged(manifests: list[Manifest]) -> Manifest:
    """Return one manifest of all; of files of one path the last one counts."""
    entries = {entry.path: entry for part in manifests for entry in part.files}
    files = tuple(entries[path] for path in sorted(entries))
    return check_manifest(replace(manifests[0], files=files))


def _check(manifest: Manifest, package: ModelPackage, text: str, directory: Path) -> None:
    files = {entry.path: entry for entry in manifest.files}
    if files[PACKAGE_FILE].blake3 != blake3(text.encode()).hexdigest():
        raise Conflict(f"{PACKAGE_FILE} was changed while it was read.", hint="Push again.")
    if package.file and package.file not in files:
        raise Invalid(
            f"{directory / PACKAGE_FILE} names the file {package.file!r}, which is not in the "
            "package.",
            hint=f"Put it there, or set `file:`. {did_you_mean(package.file, files)}",
        )


def _check_golden(package: ModelPackage, folders: list[Path]) -> None:
    """Read the golden inputs as an agent would; raises Invalid, with the line."""
    if package.golden is None:
        return
    places = [folder / package.golden.file for folder in reversed(folders)]
    path = next((place for place in places if place.is_file()), places[-1])
    parse_golden(_text(path), package, source=str(path))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise Invalid(
            f"there is no file {str(path)!r}, which model.yaml names under golden."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read {path}: {error}.") from None
