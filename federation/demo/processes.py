"""The demo's processes: started in groups of their own, started again when they die, stopped whole.

Input: a Command for each process. Output: running processes with a log file each, in the manner of
systemd: one that ends unexpectedly starts again after a second, and whatever it left behind in its
group is killed first. `hold` keeps one down; `release` lets it start again.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

RESTART_AFTER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to start one process. `grace_s` is its time between SIGTERM and SIGKILL; 0 = SIGKILL."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 5.0


class Keeper:
    """Keeps one command running."""

    def __init__(self, command: Command, owner: "Processes") -> None:
        self.command = command
        self.starts = 0
        self.exits: list[int] = []
        self.failure = ""  # why it cannot be started at all, in words
        self.process: asyncio.subprocess.Process | None = None
        self._owner = owner
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._down = asyncio.Event()
        self._down.set()
        self._stopping = False
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=command.name)

    def __repr__(self) -> str:
        state = f"pid {self.process.pid}" if self.process else "down"
        held = "" if self._wanted.is_set() else ", held"
        return f"Keeper({self.command.name}, {state}{held}, starts={self.starts})"

    @property
    def held(self) -> bool:
        """Whether it is kept down on purpose."""
        return not self._wanted.is_set()

    async def _keep(self) -> None:
        while not self._stopping:
            await self._wanted.wait()
            try:
                await self._run_once()
            except OSError as error:
                self.failure = f"{self.command.argv[0]} cannot be started: {error.strerror}"
                return
            if self._wanted.is_set() and not self._stopping:
                await asyncio.sleep(RESTART_AFTER_S)

    async def _run_once(self) -> None:
        command = self.command
        with self._owner.log_of(command.name).open("ab") as log:
            # The group is the unit of every kill: engines have children of their own.
            self.process = await asyncio.create_subprocess_exec(
                *command.argv,
                env={**os.environ, **command.environ},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        self._down.clear()
        self.starts += 1
        group = self.process.pid
        self._owner.began(group)
        try:
            self.exits.append(await self.process.wait())
        finally:
            await end_group(group)
            self._owner.tell_watchdog(f"-{group}")
            self.process = None
            self._down.set()

    async def kill(self, *, hold: bool) -> None:
        """SIGKILL the whole group; with `hold` it stays down until release()."""
        if hold:
            self._wanted.clear()
        if self.process is not None:
            _signal_group(self.process.pid, signal.SIGKILL)
            await self._down.wait()

    def release(self) -> None:
        """Let a held process start again."""
        self._wanted.set()

    async def stop(self) -> None:
        """End it for good: SIGTERM, then after the grace SIGKILL."""
        self._stopping = True
        self._wanted.set()
        process = self.process
        if process is not None and self.command.grace_s > 0:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.command.grace_s):
                    await self._down.wait()
        if self.process is not None:
            _signal_group(self.process.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await self._down.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Processes:
    """All processes of one demo, by name."""

    def __init__(self, run_directory: Path) -> None:
        self._directory = run_directory
        self._keepers: dict[str, Keeper] = {}
        self._groups: set[int] = set()
        self._watchdog: asyncio.subprocess.Process | None = None
        (run_directory / "logs").mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"Processes({list(self._keepers.values())})"

    async def guard(self) -> None:
        """Start the watchdog; to be called before the first process."""
        self._watchdog = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "federation.demo.watchdog", str(self._directory)),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    def began(self, group: int) -> None:
        """Note a new process group."""
        self._groups.add(group)
        self.tell_watchdog(f"+{group}")

    def tell_watchdog(self, line: str) -> None:
        """Pass a line to the watchdog, if there is one."""
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.write(f"{line}\n".encode())

    def log_of(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._directory / "logs" / f"{name}.log"

    def start(self, command: Command) -> Keeper:
        """Start a process and keep it running."""
        if command.name in self._keepers:
            raise ValueError(f"two processes named {command.name!r}")
        keeper = self._keepers[command.name] = Keeper(command, self)
        return keeper

    def __getitem__(self, name: str) -> Keeper:
        return self._keepers[name]

    def __contains__(self, name: str) -> bool:
        return name in self._keepers

    def report(self) -> list[dict[str, str | int]]:
        """Return each process as a row of words."""
        return [
            {
                "name": name,
                "state": "held" if keeper.held else "up" if keeper.process else "down",
                "pid": keeper.process.pid if keeper.process else 0,
                "starts": keeper.starts,
            }
            for name, keeper in self._keepers.items()
        ]

    def groups(self) -> set[int]:
        """Return every process group that was ever started."""
        return set(self._groups)

    def log(self, name: str) -> str:
        """Return a process's whole log; empty if there is none."""
        with contextlib.suppress(OSError):
            return self.log_of(name).read_text(encoding="utf-8", errors="replace")
        return ""

    def tail(self, name: str, lines: int = 8) -> str:
        """Return the end of a process's log."""
        return "\n".join(self.log(name).splitlines()[-lines:])

    async def stop(self, waves: Iterable[Callable[[str], bool]]) -> None:
        """Stop everything, wave by wave: each wave takes the processes whose names it accepts."""
        for accepts in (*waves, _everything):
            chosen = [keeper for name, keeper in self._keepers.items() if accepts(name)]
            await asyncio.gather(*(keeper.stop() for keeper in chosen))
            for keeper in chosen:
                del self._keepers[keeper.command.name]
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
            await self._watchdog.wait()
            self._watchdog = None


def _everything(_name: str) -> bool:
    return True


async def end_group(group: int) -> None:
    """Kill what is left of a process group and wait until it is gone (10 s at most)."""
    _signal_group(group, signal.SIGKILL)
    for _ in range(200):
        if not _signal_group(group, 0) or not group_members(group):
            return
        await asyncio.sleep(0.05)


def group_members(group: int) -> list[int]:
    """Return the living processes of a group; the dead that nobody reaped don't count."""
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(pid) == group and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                members.append(pid)
    return members


def processes_that_mention(directory: Path) -> list[int]:
    """Return the processes with a directory in their command line: those that left their group."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any(str(directory) in word for word in psutil.Process(pid).cmdline()):
                found.append(pid)
    return found


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a group; False when there is no such group any more."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
