"""The packages on disk: found whole, verified, removed, swept, measured, given to peers."""

import os
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from edge_agent.policy.eviction import protected
from edge_agent.sync.shelf import Shelf
from federation.contract.errors import AlreadyExists, Exhausted, Invalid, NotFound
from federation.contract.manifest import manifest_bytes
from federation.contract.types import FileEntry, Manifest
from tests.edge_agent.sync.packages import CHUNK, Package, needed, visible

BIG = os.urandom(6 * CHUNK)
ONE = Package({"model.py": b"x = 1\n", "deep/weights.bin": BIG}, version=1)
TWO = Package({"model.py": b"x = 2\n", "deep/weights.bin": BIG}, version=2)


def test_a_published_package_is_not_opened_again(tmp_path: Path) -> None:
    path = ONE.fetch(shelf := Shelf(tmp_path))
    assert shelf.find(*ONE.key) == path
    with pytest.raises(AlreadyExists):
        ONE.open(shelf)
    assert not list((tmp_path / "staging" / "m").iterdir())


def test_the_manifest_must_be_that_of_the_digest_and_the_model(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    with pytest.raises(Invalid, match=f"not {TWO.digest}"):
        shelf.open("m", 1, ONE.document, digest=TWO.digest)
    with pytest.raises(Invalid, match="of model 'm'"):
        shelf.open("other", 1, ONE.document, digest=ONE.digest)
    assert not (tmp_path / "staging").exists()


@pytest.mark.parametrize(
    ("model", "version", "digest"),
    [("../m", 1, "0" * 64), ("m", 1, "../../x"), ("m", -1, "0" * 64), ("", 1, "0" * 64)],
)
def test_names_do_not_lead_out_of_the_folder(
    tmp_path: Path, model: str, version: int, digest: str
) -> None:
    shelf = Shelf(tmp_path)
    for call in (shelf.find, shelf.verify, shelf.remove, shelf.touch, shelf.documents):
        with pytest.raises(Invalid):
            call(model, version, digest)


@pytest.mark.parametrize(
    "path",
    ["../evil", "/etc/evil", "a/../../evil", "a\\b", "./x", "a//b", ".", "", "x\0y", "x" * 600],
)
def test_a_path_outside_of_the_package_is_refused(tmp_path: Path, path: str) -> None:
    hostile = FileEntry(path=path, size=0, blake3="0" * 64, sha256="0" * 64)
    package = Package({})
    package.document = manifest_bytes(Manifest(model="m", files=(hostile,)))
    package.digest = blake3(package.document).hexdigest()
    with pytest.raises(Invalid):
        package.open(Shelf(tmp_path / "state"))
    assert not list(tmp_path.rglob("*evil*"))
    assert not (tmp_path / "state" / "staging").exists()


def test_a_name_that_no_disk_takes_is_told(tmp_path: Path) -> None:
    package = Package({"x" * 300: b"data"})
    with pytest.raises(Invalid, match="name too long"):
        package.fetch(Shelf(tmp_path))
    assert not (tmp_path / "packages").exists() or visible(tmp_path) == []


@pytest.mark.parametrize("damage", ["changed", "longer", "missing", "added", "link", "manifest"])
def test_verify_finds_damage_and_clears_the_way(tmp_path: Path, damage: str) -> None:
    path = ONE.fetch(shelf := Shelf(tmp_path))
    target = path / "model.py"
    target.chmod(0o644)
    match damage:
        case "changed":
            target.write_bytes(b"x = 2\n")
        case "longer":
            target.write_bytes(b"x = 1\n\n")
        case "missing":
            target.unlink()
        case "added":
            (path / "deep" / "model.py").write_bytes(b"")
        case "link":
            (path / "model.py.link").symlink_to("/etc/passwd")
        case _:
            path.with_name(path.name + ".manifest").write_bytes(ONE.document + b" ")
    named = "manifest" if damage == "manifest" else "model.py"
    with pytest.raises(Invalid, match=f"damaged: .*{named}"):
        shelf.verify(*ONE.key)
    assert visible(tmp_path) == []
    assert not list((tmp_path / "packages" / "m").iterdir())
    assert not list((tmp_path / "trash").iterdir())
    ONE.fetch(shelf)
    shelf.verify(*ONE.key)


def test_what_engines_write_is_passed_over(tmp_path: Path) -> None:
    path = ONE.fetch(shelf := Shelf(tmp_path))
    (path / "deep" / "__pycache__").mkdir()
    (path / "deep" / "__pycache__" / "x.pyc").write_bytes(b"made by an engine")
    shelf.verify(*ONE.key)
    assert shelf.find(*ONE.key)


def test_an_error_that_says_nothing_of_the_package_does_not_remove_it(tmp_path: Path) -> None:
    ONE.fetch(shelf := Shelf(tmp_path))

    def refuse(fd: int, offset: int, length: int) -> None:
        raise OSError(24, "Too many open files")

    with pytest.raises(Exception, match="Too many open files"):
        shelf.verify(*ONE.key, refuse)
    assert shelf.find(*ONE.key)


def test_a_new_version_shares_files_and_survives_the_removal_of_the_old(tmp_path: Path) -> None:
    old = ONE.fetch(shelf := Shelf(tmp_path))
    TWO.asked.clear()  # other tests fetch it, too
    new = TWO.fetch(shelf)
    assert (old / "deep/weights.bin").stat().st_ino == (new / "deep/weights.bin").stat().st_ino
    assert sum(TWO.asked.values()) == 1
    used = shelf.disk().used_bytes
    shelf.remove(*ONE.key)
    assert used - shelf.disk().used_bytes < CHUNK * 2
    assert TWO.is_at(new)
    shelf.verify(*TWO.key)
    shelf.remove(*ONE.key)  # a second time does nothing


def test_room_is_made_by_last_use_and_never_from_what_is_needed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for version in (1, 2, 3):
        package = Package({"w": os.urandom(1 << 20)}, version=version)
        path = package.fetch(shelf)
        shelf.touch(*package.key)
        used = path.with_name(path.name + ".used")
        os.utime(used, (version, version))
    packages = {p.version: p for p in shelf.packages()}
    assert [p.last_used for p in packages.values()] > [3.0]  # the manifest is younger
    shelf.budget_bytes = shelf.disk().used_bytes + (1 << 19)
    new = Package({"w": os.urandom(1 << 20)}, version=4)
    staging = new.open(shelf)
    staging.resume()
    staging.link()
    keep = protected(packages.values(), [packages[3].key])
    assert {key[1] for key in keep} == {2, 3}
    removed = shelf.make_room(staging, keep)
    assert [p.version for p in removed] == [1]
    with pytest.raises(Exhausted, match=r"m@4 does not fit: .*m@2 \(kept for a rollback\)"):
        shelf.budget_bytes -= 1 << 20
        shelf.make_room(staging, keep)
    staging.close()
    assert sorted(p.version for p in shelf.packages()) == [2, 3]


def test_measuring_goes_on_while_packages_come_and_go(tmp_path: Path) -> None:
    ONE.fetch(shelf := Shelf(tmp_path))
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            TWO.fetch(shelf)
            shelf.remove(*TWO.key)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(60):
            assert shelf.disk().used_bytes >= len(BIG)
            assert {p.version for p in shelf.packages()} <= {1, 2}
            assert shelf.find(*ONE.key)
    finally:
        done.set()
        thread.join(20)


def test_what_is_staged_already_needs_no_room(tmp_path: Path) -> None:
    ONE.fetch(shelf := Shelf(tmp_path))
    staging = TWO.open(shelf)
    staging.resume()
    whole = staging.outstanding_bytes
    staging.link()
    assert whole - staging.outstanding_bytes == len(BIG)
    staging.reuse()
    assert staging.outstanding_bytes <= len(TWO.document)
    assert staging.reused_bytes == len(BIG)
    staging.close()


def test_a_sweep_removes_what_nobody_wants_and_what_is_not_valid(tmp_path: Path) -> None:
    ONE.fetch(shelf := Shelf(tmp_path))
    for package in (TWO, Package({"a": b"1"}, model="gone", version=3)):
        package.open(shelf).close()
    held = Package({"a": b"1"}, model="held", version=3)
    staging = held.open(shelf)
    home = tmp_path / "packages" / "m"
    (home / f"5-{'a' * 16}").mkdir()
    (home / f"6-{'b' * 16}").mkdir()
    (home / f"6-{'b' * 16}.manifest").write_bytes(TWO.document)
    (home / "stranger").mkdir()
    (home / f"7-{'c' * 16}.manifest").write_bytes(b"orphan")
    (home / ".8.manifest.tmp").write_bytes(b"half")
    (tmp_path / "trash" / "m-1-0").mkdir(parents=True)
    (tmp_path / "staging" / "file").write_bytes(b"")
    alarms = shelf.sweep({ONE.key, TWO.key})
    assert len(alarms) == 3
    assert alarms[0].endswith(f"5-{'a' * 16} was removed: it has no manifest.")
    name = f"1-{ONE.digest[:16]}"
    assert sorted(p.name for p in home.iterdir()) == [name, f"{name}.manifest"]
    assert not list((tmp_path / "trash").iterdir())
    found = {
        p.relative_to(tmp_path / "staging").parts[0] for p in (tmp_path / "staging").glob("*/*")
    }
    assert found == {"m", "held"}
    staging.close()
    assert shelf.sweep(()) == ()
    assert not list((tmp_path / "staging").glob("*/*"))
    assert shelf.find(*ONE.key)


def test_peers_are_given_what_is_published_and_never_rot(tmp_path: Path) -> None:
    path = ONE.fetch(Shelf(tmp_path))
    shelf = Shelf(tmp_path)  # a new process: nothing is verified yet
    view = shelf.peer_view(ONE.digest)
    assert view is not None
    assert shelf.peer_view(ONE.digest) is view
    assert shelf.peer_view(TWO.digest) is None
    assert view.bitmap() == b"\x03"
    (path / "model.py").chmod(0o644)
    (path / "model.py").write_bytes(b"x = 9\n")
    assert view.read(0, CHUNK, 10) == BIG[CHUNK : CHUNK + 10]
    with pytest.raises(NotFound, match="damaged"):
        view.read(1, 0, 1)
    assert view.bitmap() == b"\x01"
    shelf.remove(*ONE.key)
    with pytest.raises(NotFound):
        view.read(0, 0, 1)
    assert shelf.peer_view(ONE.digest) is None


def test_a_release_can_be_replaced(tmp_path: Path) -> None:
    ONE.fetch(shelf := Shelf(tmp_path), release=b"first")
    shelf.keep_release(*ONE.key, b"second")
    assert shelf.documents(*ONE.key) == (ONE.document, b"second")
    assert shelf.documents(*TWO.key) is None


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "packages").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Invalid, match="not a plain folder"):
        ONE.fetch(Shelf(tmp_path / "state"))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_damaged_source_is_not_reused(tmp_path: Path) -> None:
    path = ONE.fetch(shelf := Shelf(tmp_path))
    (path / "deep/weights.bin").chmod(0o644)
    with (path / "deep/weights.bin").open("r+b") as file:
        file.seek(CHUNK)
        file.write(b"rot")
    TWO.asked.clear()
    TWO.fetch(shelf)
    assert sorted(TWO.asked.values()) == [1, 1]  # the rotten chunk, and model.py
    shelf.verify(*TWO.key)
    staging = Package({"other": BIG[: 2 * CHUNK]}, version=3).open(shelf)
    staging.reuse()
    assert needed(staging) == [1]  # version 2 has it, but only one copy is looked at
    staging.close()
