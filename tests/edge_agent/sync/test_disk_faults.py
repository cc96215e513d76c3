"""Errors of a real kernel: injected by strace, and a file system that is full."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.edge_agent.sync.fetcher import NEW, prepare
from tests.edge_agent.sync.packages import visible
from tests.edge_agent.sync.syscalls import ROOT, run
from tests.edge_agent.sync.test_kills import check

FAULTS = [
    ("fallocate", "ENOSPC", 2, "disk-full"),
    ("pwrite64", "ENOSPC", 2, "disk-full"),
    ("pwrite64", "EIO", 1, "disk-error"),
    ("fsync", "EIO", 6, "disk-error"),
    ("fsync", "EIO", 12, "disk-error"),
    ("fsync", "EIO", 15, "disk-error"),
    ("renameat", "EIO", 1, "disk-error"),
    ("mkdirat", "ENOSPC", 1, "disk-full"),
    ("linkat", "ENOSPC", 1, "disk-full"),
    ("linkat", "EMLINK", 1, ""),
    ("copy_file_range", "EXDEV", 1, ""),
    ("copy_file_range", "EIO", 1, ""),
    ("copy_file_range", "ENOSPC", 1, ""),
]


@pytest.mark.parametrize(("call", "error", "nth", "reason"), FAULTS)
def test_an_error_tears_nothing_and_the_next_run_finishes(
    tmp_path: Path, call: str, error: str, nth: int, reason: str
) -> None:
    root, sent = tmp_path / "state", tmp_path / "sent"
    root.mkdir()
    prepare(root, "upgrade")
    inject = f"inject={call}:error={error}:when={nth}"
    ended = run(root, sent, "upgrade", "-e", inject, calls=call)
    assert "INJECTED" in ended.log
    assert (ended.code, ended.stdout.split(" ")[0].strip()) == (3 if reason else 0, reason), ended
    check(root, sent, "upgrade", inject)


def test_a_disk_that_goes_on_failing_is_named(tmp_path: Path) -> None:
    root = tmp_path / "state"
    root.mkdir()
    ended = run(
        root,
        tmp_path / "sent",
        "streams",
        "-e",
        "inject=pwrite64:error=EIO:when=1+",
        calls="pwrite64",
    )
    assert ended.code == 3
    assert visible(root) == []
    check(root, tmp_path / "none", "streams", "after it was replaced")


_FULL = """
set -e
mount -t tmpfs -o size=260k none "$1"
head -c 150000 /dev/zero > "$1/filler"
"$2" -m tests.edge_agent.sync.fetcher "$1/state" "$3" fresh && exit 9
find "$1/state/packages" -type f | grep . && exit 8
rm "$1/filler"
"$2" -m tests.edge_agent.sync.fetcher "$1/state" "$3" fresh
cp -r "$1/state" "$4"
"""


def test_a_full_file_system_keeps_what_fitted(tmp_path: Path) -> None:
    mount, saved = tmp_path / "mount", tmp_path / "saved"
    mount.mkdir()
    try:
        subprocess.run(["unshare", "-m", "true"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system of our own needs root")
    command = ["unshare", "-m", "sh", "-c", _FULL, "sh", str(mount), sys.executable]
    done = subprocess.run(
        [*command, str(tmp_path / "sent"), str(saved)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'edge-agent'}"},
    )
    assert (done.returncode, done.stdout.split(" ")[0]) == (0, "disk-full"), done
    assert NEW.is_at(NEW.folder(saved))
