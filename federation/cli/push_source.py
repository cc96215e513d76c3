"""Where `fed model push` takes its package from.

Input: a directory or a URI, and the options that go with it. Output: a package that was read and
checked, and the words by which its version remembers where it came from. What is fetched is cached
in FED_CACHE_DIR, else XDG_CACHE_HOME/fed, else ~/.cache/fed.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from federation.cli.output import note
from federation.cli.packages import Like, Package, read_package
from federation.cli.progress import Progress
from federation.cli.push import MAX_SOURCE
from federation.contract.errors import NotFound
from federation.contract.package import PACKAGE_FILE
from federation.sources.base import Wanted
from federation.sources.opening import open_source


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceChoice:
    """What a user says of a source: its URI, and what of it, with which model.yaml."""

    uri: str
    package_file: Path | None = None
    wanted: Wanted = field(default_factory=Wanted)


def source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --package, --include and --exclude to a command."""
    for option in (
        click.option(
            "--exclude",
            multiple=True,
            metavar="PATTERN",
            help="Leave such files of a URI out, like '*.bin'; may be given several times.",
        ),
        click.option(
            "--include",
            multiple=True,
            metavar="PATTERN",
            help="Take only such files of a URI, like '*.safetensors'; may be given several times.",
        ),
        click.option(
            "--package",
            "package_file",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Take this file as the package's model.yaml.",
        ),
    ):
        function = option(function)
    return function


@contextmanager
def opened(
    choice: SourceChoice, name: str | None, like: Like = lambda _name: None
) -> Iterator[tuple[Package, str]]:
    """Bring a package onto this disk and read it (`like`: see read_package); yields it with the
    source to be recorded. Raises FederationError.
    """
    told = _Told()
    with open_source(
        choice.uri,
        cache=cache_folder(os.environ),
        progress=told,
        package_file=choice.package_file,
        wanted=choice.wanted,
    ) as fetched:
        told.end()
        if fetched.revision:
            note(f"{choice.uri} is {fetched.source}")
            own = fetched.directory / PACKAGE_FILE
            if not own.exists() and PACKAGE_FILE not in fetched.extra_files:
                raise NotFound(
                    f"there is no {PACKAGE_FILE} in {fetched.source}.",
                    hint="Write one, and give it with --package FILE: at least `name:` and "
                    "`runtime:`.",
                )
        extra = fetched.extra_files
        with read_package(fetched.directory, name, elsewhere=extra, like=like) as package:
            fetched.check(package.manifest)
            yield package, fetched.source[:MAX_SOURCE]


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return where fetched files are kept."""
    if named := environ.get("FED_CACHE_DIR"):
        return Path(named, "sources")
    base = environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base, "fed", "sources")


class _Told:
    """Shows how far the fetch is."""

    def __init__(self) -> None:
        self._line: Progress | None = None

    def __call__(self, done: int, total: int, _what: str) -> None:
        if self._line is None:
            self._line = Progress("fetching", total).__enter__()
        self._line.add(done - self._line.done)

    def end(self) -> None:
        if self._line is not None:
            self._line.__exit__(None, None, None)
