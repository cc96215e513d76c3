"""What every source of packages has in common.

Input: none. Output: Opened, a package on this disk that is pinned to one revision; Progress; the
sentence that tells which extra to install.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

from federation.contract.errors import Invalid
from federation.contract.types import Manifest

# Is told the bytes that are here, the bytes in all, and the file that is being fetched.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A package that lies on this disk for as long as its context lasts.

    `source` names where it came from, without secrets, and never means other bytes later (for a
    local directory that cannot be promised: its manifest tells). `revision` is the immutable part
    of it: a commit, a digest, a version; "" for a local directory. `extra_files` lie elsewhere, by
    their path in the package, and win over those in `directory`. `sha256` (hex, by path) is what
    the source itself says of files, as far as it does; `check` compares.
    """

    directory: Path
    source: str
    revision: str
    extra_files: Mapping[str, Path] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)

    def check(self, manifest: Manifest) -> None:
        """Raise Invalid if a file of the scanned package is not the one that the source names."""
        for entry in manifest.files:
            said = self.sha256.get(entry.path, entry.sha256)
            if said != entry.sha256 and entry.path not in self.extra_files:
                raise Invalid(
                    f"{entry.path!r} is not what {self.source} says: "
                    f"its SHA-256 is {entry.sha256}, not {said}.",
                    hint="Remove it from the cache and push again.",
                    reason="wrong-bytes",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which files of a source are wanted: shell patterns of their paths (`*` also matches `/`)."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)

    def __contains__(self, path: str) -> bool:
        """Return whether a file is wanted."""
        if any(fnmatchcase(path, pattern) for pattern in self.exclude):
            return False
        return not self.include or any(fnmatchcase(path, pattern) for pattern in self.include)

    def pick(self, paths: Iterable[str], source: str) -> list[str]:
        """Return the wanted ones of `paths`; raises Invalid if none is."""
        found = list(paths)
        picked = [path for path in found if path in self]
        if not picked:
            seen = f"; it has {', '.join(sorted(found)[:5])}" if found else ""
            raise Invalid(f"{source} has no files that are wanted{seen}.")
        return picked


def client_library(module: str, extra: str, scheme: str) -> ModuleType:
    """Import a third-party client; raises Invalid that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Invalid(
            f"{scheme}:// needs a library that is not installed.",
            hint=f'Install it with: pip install "inference-federation[{extra}]"',
            reason="extra-missing",
        ) from None
