"""Starts engines as sessions of their own, and ends them as such."""

import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest


class EngineProcess:
    """One running engine: a session of processes that writes a log file."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The first process of the engine, which leads its session."""
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool], *, limit_s: float) -> bool:
        """Return whether `ready` came true before the process ended or time ran out."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end and self._process.poll() is None:
            if ready():
                return True
            time.sleep(0.05)
        return False

    def kill(self) -> None:
        """End the whole session at once: Ray's workers are in groups of their own."""
        for pid in (*_session(self._process.pid), self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(20)
        end = time.monotonic() + 20
        while _session(self._process.pid) and time.monotonic() < end:
            time.sleep(0.02)


def log_tail(log: Path) -> str:
    """Return the end of an engine's log: the story of a failure."""
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]


def _session(leader: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # pid (name) state ppid pgrp session ...; the name may hold spaces and brackets
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(int(stat.parent.name))
    return found


def refuse_or_skip(reason: str) -> NoReturn:
    """Skip, or fail where the engine is known to run: a skip must not hide a broken set-up."""
    if sys.platform == "linux" and platform.machine() == "x86_64":
        pytest.fail(reason)
    pytest.skip(reason)
