"""A frame-level HTTP/2 switch for gRPC: calls of many clients over few connections to backends.

Input: clients' connections (`takeover`), a Service that decides. Output: answers. Header blocks
cross as they are, which needs that nobody uses a dynamic table (see `blocks`); flow control holds
on each hop (`flow`); what fails before its answer began may be tried elsewhere (`stream`).

One object per port of a router or gateway: caches, deadlines and the list of connections that have
something to write are its own.
"""

import asyncio
from collections.abc import Callable

from federation.relay.h2.backend import Backend
from federation.relay.h2.client import Client
from federation.relay.h2.connection import Connection
from federation.relay.h2.flow import Memory
from federation.relay.h2.rival import look
from federation.relay.h2.service import Counts, Service, SwitchLimits
from federation.relay.h2.stream import Stream
from federation.relay.h2.wheel import TICK_S, Wheel
from federation.relay.transport import Dialler, Inbound

_SWEEP_S = 1.0


class Switch:
    """Use: `takeover` for each client's connection; at last `drain`, then `await close()`."""

    def __init__(
        self, service: Service, *, limits: SwitchLimits | None = None, now: Callable[[], float]
    ) -> None:
        self.service = service
        self.limits = limits or SwitchLimits()
        self.now = now  # seconds, monotonic
        self.read_s = now()  # when something was last read, or the timer ticked
        self.counts = Counts()
        self.memory = Memory(self.limits.memory_bytes)
        self.wheel: Wheel[Stream] = Wheel()
        self.fresh: dict[Stream, None] = {}  # begun since the timer ticked, and not in the wheel
        self.clients: dict[Client, None] = {}
        self.dirty: list[Connection] = []
        self._backends: dict[Backend, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ticks_s = TICK_S
        self._swept_s = 0.0
        self._closed = False
        self._flushing = False  # as soon as this turn is over

    def __repr__(self) -> str:
        return f"Switch({len(self.clients)} clients, {self.streams} calls, {self.wheel})"

    @property
    def streams(self) -> int:
        """How many calls are on their way."""
        return sum(len(client.streams) for client in self.clients)

    def takeover(self, inbound: Inbound | None = None) -> Client:
        """Return what speaks HTTP/2 on a client's connection."""
        return Client(self, inbound)

    def backend(self, name: str, dialler: Dialler) -> Backend:
        """Return a new place for calls to go; give it up with `drop`."""
        made = Backend(name, dialler, self)
        self._backends[made] = None
        return made

    def drop(self, backend: Backend) -> None:
        """Send nothing more to a backend; what runs there may finish."""
        backend.retire()

    def flush(self) -> None:
        """Write what was collected for any connection."""
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for connection in dirty:
                connection.flush()

    def flush_soon(self) -> None:
        """Do the same when all that came in this turn of the loop was worked on: a write wakes who
        waits for it, which costs far more than what is in it."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self.flush()

    def drain(self) -> None:
        """Tell all clients to come no more; what runs may end."""
        for client in list(self.clients):
            client.drain()
        self.flush()

    def part_with(self, inbound: Inbound) -> None:
        """Ask the client on a connection to come back on another one."""
        for client in list(self.clients):
            if client.inbound is inbound:
                client.drain()

    async def close(self) -> None:
        """End all that is left."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for client in list(self.clients):
            client.end("this process stops")
            client.close()
        for backend in list(self._backends):
            await backend.close()
        self._backends.clear()
        self.flush()

    # ------------------------------------------------------------ time

    def look(self, stream: Stream, now_s: float) -> None:
        """See whether a call whose answer is late is sent to a second place, too."""
        look(stream, now_s)
        if not stream.gone:
            stream.arm(now_s)

    def watch(self) -> None:
        """Look at deadlines and idle connections from now on, while there are any."""
        if self._closed or (self._timer is not None and self._ticks_s == TICK_S):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._ticks_s = TICK_S if self.clients else _SWEEP_S
        self._timer = asyncio.get_running_loop().call_later(self._ticks_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now_s = self.read_s = self.now()
        fresh, self.fresh = self.fresh, {}
        for stream in fresh:
            stream.be_patient()
        for stream in self.wheel.due(now_s):
            stream.expired(now_s)
        if now_s - self._swept_s >= _SWEEP_S:
            self._swept_s = now_s
            self._sweep(now_s)
        self.flush()
        if self.clients or self._backends:
            self.watch()

    def _sweep(self, now_s: float) -> None:
        for client in list(self.clients):
            client.look(now_s)
        for backend in list(self._backends):
            backend.look(now_s)
            if backend.retired and backend.unused:
                del self._backends[backend]
