"""Clearing up: what an error tells of a package, and what it does not."""

import errno
from pathlib import Path

import pytest

from edge_agent.sync import sweeping
from edge_agent.sync.layout import Layout
from edge_agent.sync.shelf import Shelf
from federation.contract.errors import Invalid
from tests.edge_agent.sync.packages import Package


def test_only_errors_of_the_package_are_damage() -> None:
    assert sweeping.is_damage(Invalid("x"))
    assert sweeping.is_damage(OSError(errno.ENOENT, "x"))
    assert not sweeping.is_damage(OSError(errno.EMFILE, "x"))


def test_too_many_open_files_remove_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Package({"a": b"1"}).fetch(Shelf(tmp_path))

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "x")

    monkeypatch.setattr(sweeping, "read_order", refuse)
    with pytest.raises(OSError, match="x"):
        sweeping.sweep(Layout(tmp_path), ())
    assert path.exists()


def test_a_lock_that_outlived_its_folder_goes(tmp_path: Path) -> None:
    """A kill between the publishing rename and the end."""
    package = Package({"a": b"1"})
    package.fetch(Shelf(tmp_path))
    lock = package.staging_folder(tmp_path).with_suffix(".lock")
    lock.touch()
    assert Shelf(tmp_path).sweep({package.key}) == ()
    assert not lock.exists()
