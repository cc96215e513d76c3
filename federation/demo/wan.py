"""A wide-area network on the loopback: a TCP relay that makes every byte late.

Input: for each lane the address behind it and its round trip time. Output: a port on 127.0.0.1 for
each lane. Bytes arrive in order, half a round trip after they were sent, with a little jitter; a
new connection costs a round trip more. A lane can be cut (connections reset, new ones refused) and
healed. It lacks packet loss, slow start and half-closed connections: it is a picture of distance,
not of congestion.
"""

import asyncio
import socket
import struct
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import cast

from federation.runtime.backoff import Dice

_HIGH_WATER_BYTES = 1 << 20  # on the way in one direction; beyond it the sender has to wait
_EARLY_S = 0.0005  # timers fire up to a clock tick early
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _End(Enum):
    CLOSED = "closed"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Delay:
    """How late: half of `rtt_ms` each way, plus up to `jitter` (a share) of it."""

    rtt_ms: float
    jitter: float = 0.02

    def one_way_s(self, dice: Dice) -> float:
        """Return the delay of one piece, in seconds."""
        return self.rtt_ms / 2000 * (1 + self.jitter * dice.random())


class Lane:
    """One listening port, one address behind it, one delay."""

    def __init__(self, name: str, target: tuple[str, int], delay: Delay, dice: Dice) -> None:
        self.name = name
        self.target = target
        self.delay = delay
        self.dice = dice
        self.port = 0  # known after start()
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        state, count = ("up" if self.up else "cut"), len(self.connections)
        return f"Lane({self.name}, {state}, {self.delay.rtt_ms:g} ms, {count} open)"

    @property
    def up(self) -> bool:
        """Whether it takes connections."""
        return self._server is not None

    async def start(self) -> None:
        """Listen; after a cut on the same port as before."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self) -> "_Side":
        return _Connection(self).near

    async def cut(self) -> None:
        """Reset every connection and refuse new ones, until start()."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self.connections):
            connection.reset()
        await asyncio.sleep(0)  # lets the transports close


class _Connection:
    """Two sides and the two pipes between them."""

    def __init__(self, lane: Lane) -> None:
        now_s = asyncio.get_running_loop().time()
        rtt_s = lane.delay.rtt_ms / 1000
        # The caller may send once the handshake is over; a refusal comes back after a round trip.
        self._out, self._back = _Pipe(lane, now_s + rtt_s), _Pipe(lane, now_s + rtt_s / 2)
        self._lane = lane
        self._lost = 0
        self.near = _Side(self, incoming=self._back, outgoing=self._out)
        self._far = _Side(self, incoming=self._out, outgoing=self._back)
        self._dialling: asyncio.Task[None] | None = None

    def opened(self, side: "_Side") -> None:
        """Dial the far side as soon as the near one is there."""
        if side is self.near:
            self._lane.connections.add(self)
            dial = self._dial()
            self._dialling = asyncio.get_running_loop().create_task(dial, name=self._lane.name)

    async def _dial(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: self._far, *self._lane.target
            )
        except OSError:
            self._back.put(_End.RESET)
            self._lost += 1

    def lost(self) -> None:
        """Forget the connection once both of its sides are gone."""
        self._lost += 1
        if self._lost == 2:
            self._lane.connections.discard(self)

    def reset(self) -> None:
        """Drop both sides at once."""
        if self._dialling is not None:
            self._dialling.cancel()
        for side in (self.near, self._far):
            if side.transport is not None:
                _reset(side.transport)
        self._lane.connections.discard(self)


class _Side(asyncio.Protocol):
    """One socket of a connection."""

    def __init__(self, owner: _Connection, *, incoming: "_Pipe", outgoing: "_Pipe") -> None:
        self._owner = owner
        self._incoming, self._outgoing = incoming, outgoing
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the socket to both pipes."""
        self.transport = cast("asyncio.Transport", transport)
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._incoming.writer = self._outgoing.reader = self.transport
        self._incoming.unblock()
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Send a piece on its way."""
        self._outgoing.put(data)

    def pause_writing(self) -> None:
        """Hold back what comes in: this socket is full."""
        self._incoming.block()

    def resume_writing(self) -> None:
        """Let it flow again."""
        self._incoming.unblock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the news travel, behind what was sent before."""
        self._incoming.stop()
        self._outgoing.put(_End.CLOSED if exc is None else _End.RESET)
        self._owner.lost()


class _Pipe:
    """One direction: pieces that wait for their time, then for the writer."""

    def __init__(self, lane: Lane, not_before_s: float) -> None:
        self._lane = lane
        self._not_before_s = not_before_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, bytes | _End]] = deque()
        self._bytes = 0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._blocked = False
        self.reader: asyncio.Transport | None = None
        self.writer: asyncio.Transport | None = None

    def put(self, item: bytes | _End) -> None:
        """Take a piece; it leaves one delay later, never before an earlier one."""
        sent_s = max(self._loop.time(), self._not_before_s)
        self._due_s = max(self._due_s, sent_s + self._lane.delay.one_way_s(self._lane.dice))
        self._waiting.append((self._due_s, item))
        if isinstance(item, bytes):
            self._bytes += len(item)
        if self._bytes > _HIGH_WATER_BYTES and self.reader is not None:
            self.reader.pause_reading()
        self._arm()

    def block(self) -> None:
        """Hold everything back."""
        self._blocked = True

    def unblock(self) -> None:
        """Go on."""
        self._blocked = False
        self._arm()

    def stop(self) -> None:
        """Forget what waits: nobody is left to read it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
        self.writer = None

    def _arm(self) -> None:
        if self._timer is None and self._waiting and self.writer and not self._blocked:
            self._timer = self._loop.call_at(self._waiting[0][0], self._flush)

    def _flush(self) -> None:
        self._timer = None
        while self._waiting and self.writer and not self._blocked:
            due_s, item = self._waiting[0]
            if due_s > self._loop.time() + _EARLY_S:
                break
            self._waiting.popleft()
            self._deliver(self.writer, item)
        if self._bytes <= _HIGH_WATER_BYTES and self.reader and not self.reader.is_closing():
            self.reader.resume_reading()
        self._arm()

    def _deliver(self, writer: asyncio.Transport, item: bytes | _End) -> None:
        if isinstance(item, bytes):
            self._bytes -= len(item)
            writer.write(item)
        elif item is _End.CLOSED:
            writer.close()
        else:
            _reset(writer)


def _reset(transport: asyncio.Transport) -> None:
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.fileno() != -1:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
