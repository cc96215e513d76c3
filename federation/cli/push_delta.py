"""The options of `fed model push` for a weight delta, and the old version that they lead to.

Input: --delta-from and --delta-dir, the name of the model that is pushed. Output: an OldVersion,
whose manifest was fetched before the new one's files are read: they are cut alike.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from federation.cli.model_pull import split_version
from federation.cli.old_version import OldVersion, Origin
from federation.cli.session import Session
from federation.contract.locations import Locations, parse_locations
from federation.contract.manifest import parse_manifest
from federation.contract.types import Manifest


@dataclass(frozen=True, slots=True)
class DeltaChoice:
    """What a user says of the old version; `version` = "" asks for no delta."""

    version: str = ""
    directory: Path | None = None


def delta_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --delta-from and --delta-dir to a command."""
    for option in (
        click.option(
            "--delta-dir",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            metavar="DIR",
            help="Read the old version of --delta-from here, instead of fetching it.",
        ),
        click.option(
            "--delta-from",
            metavar="VERSION",
            default="",
            help="Tell changed float tensors as differences to this version: a number, @alias, or "
            "MODEL@VERSION. For full fine-tunes over thin links.",
        ),
    ):
        function = option(function)
    return function


class Delta:
    """Opens the old version as soon as the name of the new one is known."""

    def __init__(self, session: Session, choice: DeltaChoice) -> None:
        self._session = session
        self._choice = choice
        self._told: tuple[Manifest, tuple[str, ...]] | None = None

    def like(self, name: str) -> Manifest | None:
        """Return the manifest of the old version for a model of this name, if one is wanted; raises
        FederationError."""
        if not self._choice.version:
            return None
        model, version = old_name(self._choice.version, name)
        with self._session.client() as client:
            path = ("api", "v1", "models", model, "versions", version)
            number = str(client.get(*path)["version"])  # an alias may move meanwhile
            path = (*path[:-1], number)
            manifest = parse_manifest(client.fetch(*path, "manifest"))
        self._told = manifest, path
        return manifest

    @contextmanager
    def opened(self) -> Iterator[OldVersion | None]:
        """Yield the old version that `like` found, None if there is to be no delta."""
        if self._told is None:
            yield None
            return
        manifest, path = self._told

        def load() -> Locations:
            with self._session.client() as client:  # the other one is sending
                return parse_locations(client.fetch(*path, "locations"))

        with self._session.client() as client:
            endpoint = client.endpoint
        origin = Origin(
            manifest=manifest,
            load=load,
            endpoint=endpoint,
            roots=self._session.roots(),
            directory=self._choice.directory,
        )
        with OldVersion(origin) as old:
            yield old


def old_name(text: str, name: str) -> tuple[str, str]:
    """Return model and version of VERSION, @ALIAS or MODEL@VERSION; `name` is the model of the
    first two. Raises Invalid."""
    model, at, version = text.rpartition("@")
    return split_version(f"{model or name}@{version}") if at else (name, version)
