"""What is durable when: the order of fsync and rename, and every loss of power in one run."""

from pathlib import Path

import pytest

from edge_agent.sync.shelf import Shelf
from tests.edge_agent.sync.fetcher import NEW, OLD, STREAMS, fetch, prepare
from tests.edge_agent.sync.packages import visible
from tests.edge_agent.sync.power_loss import Call, Disk, calls, path_of, text
from tests.edge_agent.sync.syscalls import run

WRITES = ("pwrite64", "write", "ftruncate", "fallocate", "copy_file_range", "fchmod")


def traced(tmp_path: Path, scenario: str) -> tuple[Path, Disk, list[Call]]:
    """Run the fetcher once; return where, the disk as it was before, and its calls."""
    root = tmp_path / "state"
    root.mkdir()
    prepare(root, scenario)
    disk = Disk(root)
    ended = run(root, tmp_path / "sent", scenario, "-y", "-xx", "-s", "1000000")
    assert ended.code == 0, ended.stderr
    return root, disk, calls(ended.log)


def written(call: Call) -> Path | None:
    """Return the file that a call changed."""
    if call.name not in WRITES:
        return None
    return path_of(call.args[2 if call.name == "copy_file_range" else 0])


def entered(call: Call) -> Path | None:
    """Return the folder that got an entry by a call."""
    match call.name:
        case "mkdirat":
            return path_of(call.args[0])
        case "openat" if "O_CREAT" in call.args[2]:
            return call.path.parent
        case "linkat" | "renameat":
            return path_of(call.args[2])
        case _:
            return None


@pytest.mark.parametrize("scenario", STREAMS)
def test_everything_is_synced_before_the_rename_and_the_parents_after(
    tmp_path: Path, scenario: str
) -> None:
    root, _, seen = traced(tmp_path, scenario)
    staging, final = NEW.staging_folder(root), NEW.folder(root)
    publishing = [
        n
        for n, call in enumerate(seen)
        if call.name == "renameat" and path_of(call.args[2]) / text(call.args[3]) == final
    ]
    assert len(publishing) == 1
    before, after = seen[: publishing[0]], seen[publishing[0] + 1 :]

    def synced(path: Path, among: list[Call], since: int = 0) -> bool:
        return any(c.name == "fsync" and path_of(c.args[0]) == path for c in among[since:])

    changed: dict[Path, int] = {}
    for n, call in enumerate(before):
        for path in (written(call), entered(call)):
            if path is not None and path.is_relative_to(root):
                changed[path] = n + 1
    inside = {path for path in changed if path.is_relative_to(staging)}
    assert len(inside) >= len(NEW.files)
    locks = {path for path in changed if path.suffix == ".lock"}
    for path in set(changed) - locks - {staging.parent, root / "staging"}:
        assert synced(path, before, changed[path]), path
    for parent in (final.parent, staging.parent):
        assert synced(parent, after), parent
    assert not any(written(call) for call in after)


@pytest.mark.parametrize("scenario", ["streams", "upgrade"])
def test_no_loss_of_power_shows_or_leaves_a_torn_version(tmp_path: Path, scenario: str) -> None:
    root, disk, seen = traced(tmp_path, scenario)
    final, published = NEW.folder(root), 0
    for number, call in enumerate(seen):
        disk.play(call)
        if call.name in ("close", "openat", "fchmod") or (number % 5 and call.name == "pwrite64"):
            continue
        node = disk.node(final)
        after = tmp_path / f"after-{number}"
        disk.materialise(after, adversarial=(final, node) if node else None)
        if node is not None:
            published += 1
            assert NEW.is_at(NEW.folder(after)), call
            Shelf(after).verify(*NEW.key)
        elif (after / "packages").exists():
            assert NEW.folder(root).name not in {Path(p).name for p in visible(after)}
        with (tmp_path / "log").open("wb") as log:
            fetch(after, scenario, log.fileno())
        Shelf(after).verify(*NEW.key)
        if scenario == "upgrade":
            Shelf(after).verify(*OLD.key)
    assert published >= 2
    disk.materialise(tmp_path / "end")  # without help: what was reported is durable
    assert NEW.is_at(NEW.folder(tmp_path / "end"))
    Shelf(tmp_path / "end").verify(*NEW.key)
