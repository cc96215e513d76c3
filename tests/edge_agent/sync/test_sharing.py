"""On file systems that can share blocks a new version costs what changed; elsewhere it is copied.

Needs root, a loop device, and mkfs.xfs or mkfs.btrfs in PATH (or in FED_TEST_MKFS, a folder).
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.edge_agent.sync.syscalls import ROOT

_SCRIPT = """
set -e
truncate -s "$5" "$2/image"
"$1" $6 "$2/image" > /dev/null
mkdir "$2/mount"
mount -o loop "$2/image" "$2/mount"
"$3" -m tests.edge_agent.sync.sharing "$2/mount/state"
umount "$2/mount"
"""


def _mkfs(kind: str) -> str:
    path = os.pathsep.join((os.environ.get("FED_TEST_MKFS", ""), os.environ["PATH"], "/usr/sbin"))
    if program := shutil.which(f"mkfs.{kind}", path=path):
        return program
    pytest.skip(f"mkfs.{kind} is not installed")


@pytest.mark.parametrize(
    ("kind", "size", "options", "most_kb"),
    [
        ("xfs", "320M", "-q", 3 << 10),
        ("btrfs", "256M", "-q", 4 << 10),
        ("ext4", "96M", "-qF", 18 << 10),
    ],
)
def test_a_new_version_costs_what_changed(
    tmp_path: Path, kind: str, size: str, options: str, most_kb: int
) -> None:
    mkfs = _mkfs(kind)
    if os.geteuid() or not Path("/dev/loop-control").exists():
        pytest.skip("a loop mount needs root and a loop device")
    command = ["unshare", "-m", "sh", "-c", _SCRIPT, "sh", mkfs, str(tmp_path), sys.executable]
    done = subprocess.run(
        [*command, kind, size, options],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'edge-agent'}"},
    )
    if "mount:" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    cost_kb, fetched = map(int, done.stdout.split())
    print(f"{kind}: {cost_kb} KB, {fetched} of 16 chunks fetched")
    assert (cost_kb <= most_kb, fetched) == (True, 1), cost_kb
