"""What set-up fetches from the package index, into a cache that several processes may share.

Input: requirements pinned to one version, a cache folder. Output: installed packages or wheels;
a fetch that fails is one sentence with the last line of pip's complaint.
"""

import fcntl
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from federation.contract.errors import Unavailable


class FetchFailed(Unavailable):
    """The package index did not give what set-up needs."""

    reason = "fetch-failed"


@contextmanager
def locked(cache: Path, name: str) -> Iterator[None]:
    """Hold a lock between processes, so that one fetches and the others wait for it."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch_wheel(cache: Path, requirement: str) -> Path:
    """Return the wheel of `name==version`, downloaded once, without its dependencies."""
    folder = cache / "wheels"
    pattern = f"{requirement.replace('==', '-')}-*.whl"
    with locked(cache, "wheels"):
        folder.mkdir(exist_ok=True)
        if found := next(folder.glob(pattern), None):
            return found
        with tempfile.TemporaryDirectory(dir=cache, prefix=".wheel-") as fresh:
            pip("download", "--no-deps", "--only-binary=:all:", "--dest", fresh, requirement)
            wheel = next(Path(fresh).glob("*.whl"))
            return Path(shutil.move(wheel, folder / wheel.name))


def pip(command: str, *arguments: str, python: str = "") -> None:
    """Run this interpreter's pip, on another environment if `python` is given."""
    target = ("--python", python) if python else ()
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    run([sys.executable, "-m", "pip", *target, command, *quiet, *arguments])


def run(command: Sequence[str]) -> None:
    """Run a command to its end; raises FetchFailed with its last line of complaint."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shown = " ".join(word for word in command if not word.startswith("-"))
        raise FetchFailed(
            f"{shown} failed: {last_line(done)}",
            hint="Check the connection to the package index.",
        )


def last_line(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the last line that a finished command printed, or its exit code."""
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {done.returncode}"
