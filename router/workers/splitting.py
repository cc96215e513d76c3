"""The first workers of a router: split off from the process that has read all the code already.

Input: the sockets that each shall have. Output: processes, and the keeper's end of the link to
each. A process that is started anew spends most of a second on reading code, and keeps it for
itself; these share what was read. They are split off before there is a thread or a loop, and wait
for the keeper's first word. Workers that take the place of one that ended are started anew.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from federation.runtime.memory import spare_from_collection
from router.workers.places import Doors, Place
from router.workers.worker import Inherited, work

log = logging.getLogger(__name__)

_LOOK_S = 0.02  # whether a process has ended


class Process(Protocol):
    """What a crew needs of the process of a worker, however it came to be."""

    @property
    def pid(self) -> int:
        """The system's number of it."""
        ...

    @property
    def returncode(self) -> int | None:
        """Its exit code, None while it is not known to have ended."""
        ...

    def kill(self) -> None:
        """End it at once; raises ProcessLookupError if it has ended."""
        ...

    async def wait(self) -> int:
        """Return its exit code once it has ended; -N = signal N ended it."""
        ...


class Part:
    """A process that was split off from this one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def __repr__(self) -> str:
        return f"Part({self.pid}, {'runs' if self.returncode is None else self.returncode})"

    def ended(self, *, patiently: bool = False) -> bool:
        """Return whether it has ended; `patiently`: once it has."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, 0 if patiently else os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode is not None

    def kill(self) -> None:
        """End it at once; raises ProcessLookupError if it has ended."""
        if self.ended():
            raise ProcessLookupError(self.pid)
        os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Return its exit code once it has ended; -N = signal N ended it."""
        while True:
            if self.ended() and self.returncode is not None:
                return self.returncode
            await asyncio.sleep(_LOOK_S)


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker that waits for its first word."""

    process: Process
    link: socket.socket  # the keeper's end


@contextlib.contextmanager
def split_off(workers: int, place: Place, doors: Doors) -> Iterator[Sequence[Begun]]:
    """Split off so many workers. Those that live in the end are ended.

    Raises RuntimeError beside another thread: what that holds locked would stay so in a worker.
    """
    if threading.active_count() > 1:
        raise RuntimeError("workers are split off before there is another thread")
    spare_from_collection()  # else each would write to all pages, and share none
    begun: list[Begun] = []
    parts: list[Part] = []
    try:
        for number in range(workers):
            mine, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                for one in (mine, *(other.link for other in begun)):
                    one.close()  # else nobody could tell that the keeper is gone
                _work(theirs, _left(number, place, doors))
            theirs.close()
            parts.append(Part(pid))
            begun.append(Begun(parts[-1], mine))
        yield begun
    finally:
        for worker in begun:
            worker.link.close()
        for part in parts:
            with contextlib.suppress(ProcessLookupError):
                part.kill()
            part.ended(patiently=True)


def _left(number: int, place: Place, doors: Doors) -> Inherited:
    """Return what is for a worker to listen on, and close what is not."""
    if place.inherited is None:
        place.held.close()
    agents = doors.sockets[number] if doors.sockets else None
    for door in doors.sockets:
        if door is not agents:
            door.close()
    return Inherited(place.inherited, agents)


def _work(keeper: socket.socket, inherited: Inherited) -> NoReturn:
    """Be a worker, and never come back to where it was split off."""
    code = 1
    try:
        code = work(keeper, inherited)
    except BaseException:
        log.exception("a worker failed")
    finally:
        logging.shutdown()
        os._exit(code)
