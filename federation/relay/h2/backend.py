"""A place that answers calls, and the few connections to it that all calls share.

Input: calls that want to go there; a Dialler. Output: each call is opened on a connection, waits
for one, or fails. What waits is bounded, in number here and in time by each call's deadline.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from federation.contract.errors import Exhausted, FederationError
from federation.relay.failures import ForwardError
from federation.relay.h2.service import Failure, Kind
from federation.relay.h2.upstream import Up
from federation.relay.transport import Dialler

if TYPE_CHECKING:
    from federation.relay.h2.stream import Stream
    from federation.relay.h2.switch import Switch

log = logging.getLogger(__name__)

_MOST_BARREN = 3


class Backend:
    """One place. It dials when the first call comes."""

    def __init__(self, name: str, dialler: Dialler, switch: "Switch") -> None:
        self.name = name
        self.dialler = dialler
        self.switch = switch
        self._connections: list[Up] = []
        self._leaving: dict[Up, None] = {}  # they get no calls, until their transport is closed
        self._waiting: dict[Stream, None] = {}
        self._dialling: asyncio.Task[None] | None = None
        self.retired = False
        self._barren = 0  # connections in a row that never carried a call
        self._emptied = asyncio.Event()

    def __repr__(self) -> str:
        return (
            f"Backend({self.name}, {len(self._connections)} connections, {self.running} calls, "
            f"{len(self._waiting)} waiting)"
        )

    @property
    def running(self) -> int:
        """How many calls are open on its connections."""
        return sum(len(up.streams) for up in (*self._connections, *self._leaving))

    @property
    def waiting(self) -> int:
        """How many calls wait for a connection."""
        return len(self._waiting)

    def take(self, stream: "Stream") -> None:
        """Open a call now, or as soon as there is a connection; raises Exhausted."""
        if self.retired:
            stream.lost(Failure(kind=Kind.UNREACHABLE, why="it left", reason="unreachable"))
            return
        up = self.free()
        if up is not None:
            stream.open_on(up)
            return
        if len(self._waiting) >= self.switch.limits.waiting:
            raise Exhausted(
                f"{len(self._waiting)} calls wait for a connection already.",
                hint="Try again in a second.",
                reason="saturated",
            )
        self._waiting[stream] = None

    def forget(self, stream: "Stream") -> None:
        """A call waits no longer."""
        self._waiting.pop(stream, None)

    @property
    def wanted(self) -> bool:
        """Whether calls wait for a connection."""
        return bool(self._waiting)

    def more(self) -> None:
        """Open calls that wait, as many as there is room for."""
        while self._waiting and (up := self.free()) is not None:
            stream = next(iter(self._waiting))
            del self._waiting[stream]
            stream.open_on(up)

    def free(self) -> Up | None:
        """Return the connection with the fewest calls that takes one more; dial if none does."""
        best: Up | None = None
        connections = self._connections
        if len(connections) == 1 and connections[0].free:
            return connections[0]
        for up in tuple(connections):
            if up.free and (best is None or len(up.streams) < len(best.streams)):
                best = up
        if best is None and self._may_dial():
            loop = asyncio.get_running_loop()
            self._dialling = loop.create_task(self._dial())
        return best

    def _may_dial(self) -> bool:
        return (
            self._dialling is None
            and len(self._connections) < self.switch.limits.connections
            and all(up.ready for up in self._connections)
        )

    async def _dial(self) -> None:
        connect_s = self.switch.limits.connect_s
        try:
            await self.dialler.connect(lambda: Up(self), connect_s=connect_s)
        except (ForwardError, FederationError) as error:
            why = error.message.rstrip(".") if isinstance(error, FederationError) else str(error)
            self._dialling = None
            self._refuse(Failure(kind=Kind.UNREACHABLE, why=why, reason="unreachable"))
        finally:
            self._dialling = None
            self.more()
            self.switch.flush()

    def _refuse(self, failure: Failure) -> None:
        """Nothing can be opened: tell those that wait, unless another connection still may come."""
        if any(not up.leaving for up in self._connections):
            return
        waiting, self._waiting = list(self._waiting), {}
        for stream in waiting:
            stream.lost(failure)

    # ------------------------------------------------------------ connections

    def made(self, up: Up) -> None:
        """A connection is open; calls begin on it when its settings have come."""
        if self.retired:
            up.leaving = True
            self._leaving[up] = None
            up.close_if_done()
        else:
            self._connections.append(up)
            self.switch.watch()

    def left(self, up: Up) -> None:
        """A connection takes no further calls, or is over."""
        if up in self._connections:
            self._connections.remove(up)
            self._leaving[up] = None
        if up.last:
            self._barren = 0
        elif not self.retired:
            self._barren += 1
            if self._barren >= _MOST_BARREN:  # one does not dial for ever what is never used
                why = "its connections cannot be used"
                self._refuse(Failure(kind=Kind.UNREACHABLE, why=why, reason="unreachable"))

    def gone(self, up: Up) -> None:
        """A connection's transport is closed."""
        self._leaving.pop(up, None)
        if not self._leaving:
            self._emptied.set()

    def look(self, now_s: float) -> None:
        """Close what has been idle, and what does not greet."""
        for up in list(self._connections):
            late = not up.ready and now_s - up.busy_s > self.switch.limits.connect_s
            if late and up.transport is not None:
                up.end("it did not greet in time")
                up.transport.abort()
            elif up.idle(now_s):
                up.leave()

    def give_up(self, why: str) -> int:
        """End all attempts that wait for a first byte; return how many."""
        count = sum(up.give_up(why) for up in (*self._connections, *self._leaving))
        waiting, self._waiting = list(self._waiting), {}
        for stream in waiting:
            stream.lost(Failure(kind=Kind.GIVEN_UP, why=why))
        self.switch.flush()
        return count + len(waiting)

    def retire(self) -> None:
        """Take no further calls; connections close as what runs on them ends."""
        self.retired = True
        for up in list(self._connections):
            up.leave()
        self.switch.flush()

    async def close(self) -> None:
        """Close all connections at once."""
        self.retired = True
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.gather(self._dialling, return_exceptions=True)
        for up in (*self._connections, *self._leaving):
            up.end("this process stops")
            if up.transport is not None:
                up.transport.abort()
        self.switch.flush()
        self._emptied.clear()
        if self._leaving:
            await self._emptied.wait()

    @property
    def unused(self) -> bool:
        """Whether a retired one can be forgotten."""
        return not self._connections and not self._leaving and self._dialling is None
