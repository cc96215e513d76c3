"""The fetcher under strace: its system calls on our folders, killed or failed at any of them."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.edge_agent.sync.fetcher import NEW, OLD

ROOT = Path(__file__).resolve().parents[3]
CALLS = [
    "openat",
    "pwrite64",
    "write",
    "fallocate",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "mkdir",
    "mkdirat",
    "close",
    "ftruncate",
    "link",
    "linkat",
    "copy_file_range",
    "unlinkat",
    "fchmod",
    "flock",
]
_LINE = re.compile(r"(?P<pid>\d+)\s+(?P<call>\w+)\((?P<rest>.*)")


@dataclass(frozen=True)
class Ended:
    """How a traced run ended."""

    killed: bool
    code: int
    stdout: str
    stderr: str
    log: str


def strace() -> str:
    """Return the program; without it the test is skipped, on Linux where CI=true it fails."""
    if program := shutil.which("strace"):
        return program
    reason = "strace is not installed"
    if sys.platform == "linux" and os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def watched(root: Path) -> list[Path]:
    """Every path that the fetcher touches below its state directory."""
    paths = [root, *(root / kind for kind in ("packages", "staging", "trash"))]
    for package in (OLD, NEW):
        for folder in (package.folder(root), package.staging_folder(root)):
            beside = (folder.with_name(folder.name + kind) for kind in (".manifest", ".release"))
            hidden = (
                folder.with_name(f".{folder.name}{kind}.tmp") for kind in (".manifest", ".release")
            )
            paths += [folder.parent, folder, folder.with_name(folder.name + ".lock")]
            paths += [*beside, *hidden]
            for name in package.files:
                paths += [folder / name, *(folder / p for p in list(Path(name).parents)[:-1])]
    return list(dict.fromkeys(paths))


def run(
    root: Path, sent: Path, scenario: str, *options: str, calls: str = ",".join(CALLS)
) -> Ended:
    """Run the fetcher under strace with these options."""
    log = root.parent / "strace.log"
    paths = [x for path in watched(root) for x in ("-P", str(path))]
    child = [sys.executable, "-m", "tests.edge_agent.sync.fetcher", str(root), str(sent), scenario]
    done = subprocess.run(
        [strace(), "-f", "-qq", "-o", str(log), *paths, "-e", f"trace={calls}", *options, *child],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'edge-agent'}"},
    )
    if "ptrace" in done.stderr:
        pytest.fail(done.stderr) if os.environ.get("CI") else pytest.skip(done.stderr)
    killed = done.returncode in (-9, 137)
    return Ended(killed, done.returncode, done.stdout, done.stderr, log.read_text())


def counted(log: str) -> dict[str, int]:
    """Return how often the busiest thread made each call: strace counts for each thread."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for line in log.splitlines():
        if (match := _LINE.match(line)) and match["call"] in CALLS:
            seen[match["call"]][match["pid"]] += 1
    return {call: max(by_thread.values()) for call, by_thread in seen.items()}
