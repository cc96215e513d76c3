"""Who gets which connection of one cluster, where connections cannot be made but only awaited.

Input: connections as they come, are given back and break; requests that want one. Output: each
connection is idle, lent to one request, or gone. Requests that find none idle stand in line, and
the next connection, new or given back, is lent to the first of them. The newest idle connection is
lent first: those that stay idle are then the ones that the agent can give up.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from federation.relay.failures import Refused
from federation.relay.http1.client import ClientConnection
from federation.relay.reversal import GOODBYE
from federation.trust.peers import Peer

_RESERVING = 8  # connections of a cluster from which on one idle one is kept for probes
_LONGEST = 3  # times the patience
_ABANDONED_S = 0.5  # an agent that only lost its connections is back by then
_LOOK_S = 0.1


class Owner:
    """Who is told what happens to a connection; `ReversePool` is one."""

    def arrived(self, connection: "ReversedConnection", transport: asyncio.Transport) -> None:
        """A handshake is done."""
        raise NotImplementedError

    def gone(self, connection: "ReversedConnection") -> None:
        """It is closed, whoever did it."""
        raise NotImplementedError

    def spoke(self, connection: "ReversedConnection", data: bytes) -> None:
        """Something came while it was idle."""
        raise NotImplementedError


class ReversedConnection(ClientConnection):
    """One connection, which looks after itself while it is idle."""

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self.peer: Peer | None = None  # known once it was taken in
        self.idle = False
        self._owner = owner
        self._other: asyncio.Protocol | None = None

    def __repr__(self) -> str:
        return f"ReversedConnection({self.cluster}, {'idle' if self.idle else 'lent'})"

    @property
    def cluster(self) -> str:
        """The cluster that it comes from; empty before it was taken in."""
        return self.peer.id.name if self.peer else ""

    def hand_over(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Let another protocol speak on it until its end; raises Refused if that has come."""
        if self.transport is None or self.transport.is_closing():
            raise Refused(f"a connection of cluster {self.cluster} broke as it was taken")
        self._other = protocol
        protocol.connection_made(self.transport)
        return self.transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the owner."""
        super().connection_made(transport)
        if self.transport is not None:
            self._owner.arrived(self, self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, after whom it was lent to."""
        super().connection_lost(exc)
        if self._other is not None:
            self._other.connection_lost(exc)
        self._owner.gone(self)

    def data_received(self, data: bytes) -> None:
        """Hand on what came to whom it concerns."""
        if self._other is not None:
            self._other.data_received(data)
        elif self.idle:
            self._owner.spoke(self, data)
        else:
            super().data_received(data)

    def spoke(self, data: bytes) -> None:
        """It is lent, and its request not sent yet: a goodbye comes too late to count."""
        if data != GOODBYE:
            self.abort()

    def eof_received(self) -> bool | None:
        """The agent sends no more."""
        return self._other.eof_received() if self._other is not None else None

    def pause_writing(self) -> None:
        """The agent takes less than we send."""
        super().pause_writing()
        if self._other is not None:
            self._other.pause_writing()

    def resume_writing(self) -> None:
        """It takes more again."""
        super().resume_writing()
        if self._other is not None:
            self._other.resume_writing()


@dataclass(frozen=True, slots=True)
class Counts:
    """The connections of one cluster, and the requests that wait for one."""

    idle: int
    lent: int
    waiting: int


_Line = dict["asyncio.Future[ReversedConnection]", None]


class Lender:
    """The connections of one cluster. `usable` is asked before one is lent."""

    def __init__(self, cluster: str, usable: Callable[[ReversedConnection], bool]) -> None:
        self.open: set[ReversedConnection] = set()
        self._cluster = cluster
        self._usable = usable
        self._idle: dict[ReversedConnection, None] = {}  # the longest idle first
        self._line: _Line = {}
        self._probes: _Line = {}
        self._lent: set[ReversedConnection] = set()
        self._lent_s = float("-inf")  # when somebody who waited was served
        self._emptied_s = float("-inf")  # when the last connection broke

    def __repr__(self) -> str:
        return f"Lender({self._cluster}: {self.counts()})"

    def counts(self) -> Counts:
        """Return how many connections and waiting requests there are."""
        return Counts(len(self._idle), len(self._lent), len(self._line))

    @property
    def waiting(self) -> int:
        """How many requests stand in line; probes do not count."""
        return len(self._line)

    def usable(self, connection: ReversedConnection) -> bool:
        """Return whether a connection that is lent may carry another request."""
        return not connection.should_close and self._usable(connection)

    def take_now(self, *, probe: bool) -> ReversedConnection | None:
        """Lend an idle connection; None if there is none to spare or others wait for it."""
        reserved = 1 if not probe and len(self.open) >= _RESERVING else 0
        while len(self._idle) > reserved and not (self._probes if probe else self._line):
            if (connection := self._lend()) is not None:
                return connection
        return None

    async def take(self, *, patience_s: float | None, probe: bool) -> ReversedConnection:
        """Lend an idle connection, or the next one that comes within `patience_s`; else Refused.

        As long as the line moves, its end is worth waiting for: then the patience begins anew, up
        to three times as long in all. When no connection is left, it ends soon. Probes go first,
        and one connection is kept for them, so that a cluster whose connections are all busy does
        not look dead.
        """
        waiter: asyncio.Future[ReversedConnection] = asyncio.get_running_loop().create_future()
        line = self._probes if probe else self._line
        line[waiter] = None
        self._serve()
        if not waiter.done():
            await self._wait(waiter, line, patience_s)
        connection = waiter.result()
        if not connection.is_connected():
            raise Refused(f"a connection of cluster {self._cluster} broke as it was taken")
        return connection

    async def _wait(
        self, waiter: "asyncio.Future[ReversedConnection]", line: _Line, patience_s: float | None
    ) -> None:
        clock, patience_s = asyncio.get_running_loop().time, patience_s or float("inf")
        began_s = now_s = clock()
        try:
            while not waiter.done():
                moved_s = max(began_s, self._lent_s)
                until_s = min(moved_s + patience_s, began_s + _LONGEST * patience_s)
                if not self.open:  # the agent is gone: the request has better places to go to
                    until_s = min(until_s, max(began_s, self._emptied_s) + _ABANDONED_S)
                if until_s <= now_s:
                    raise Refused(self._why())
                step_s = min(until_s - now_s, _LOOK_S)
                await asyncio.wait((waiter,), timeout=step_s)
                due_s, now_s = now_s + step_s, clock()
                if now_s - due_s > _LOOK_S:  # we stood still; what came meanwhile is yet to be read
                    began_s += now_s - due_s
        except asyncio.CancelledError:
            if waiter.done():
                self.give_back(waiter.result())
            raise
        finally:
            waiter.cancel()
            line.pop(waiter, None)

    def give_back(self, connection: ReversedConnection) -> None:
        """Take a connection in or back; it is closed if it is not clean."""
        self._lent.discard(connection)
        if connection.should_close or not connection.is_connected():
            connection.close()
            return
        connection.idle = True
        self._idle[connection] = None
        self._serve()

    def withdraw(self, connection: ReversedConnection) -> bool:
        """Lend a connection no more; return whether it was idle."""
        connection.idle = False
        was_idle = connection in self._idle
        self._idle.pop(connection, None)
        return was_idle

    def forget(self, connection: ReversedConnection) -> None:
        """A connection is closed."""
        self.withdraw(connection)
        self._lent.discard(connection)
        self.open.discard(connection)
        if not self.open:
            self._emptied_s = asyncio.get_running_loop().time()

    def _serve(self) -> None:
        while waiter := self._next():
            if (connection := self._lend()) is not None:
                waiter.set_result(connection)
                (self._probes if waiter in self._probes else self._line).pop(waiter)

    def _lend(self) -> ReversedConnection | None:
        """Take the newest idle connection out; None, and it is closed, if it cannot be used."""
        connection, _ = self._idle.popitem()
        connection.idle = False
        if not self._usable(connection):
            connection.close()
            return None
        self._lent.add(connection)
        self._lent_s = asyncio.get_running_loop().time()
        return connection

    def _next(self) -> "asyncio.Future[ReversedConnection] | None":
        """Return who gets the next idle connection; None if nobody does."""
        reserved = 1 if len(self.open) >= _RESERVING else 0
        for line, kept in ((self._probes, 0), (self._line, reserved)):
            if len(self._idle) > kept:
                for waiter in line:
                    if not waiter.done():
                        return waiter
        return None

    def _why(self) -> str:
        if not self.open:
            return f"cluster {self._cluster} has no connection to this router; its agent dials them"
        return f"all {len(self.open)} connections of cluster {self._cluster} are busy"
