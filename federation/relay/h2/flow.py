"""Flow control of one direction of one call, hop by hop (RFC 9113, section 5.2).

Input: pieces of a body from one connection, windows as the other one opens them. Output: DATA
frames on the other connection, and credit for the first. What is held is never more than the window
that was given for it: a slow reader makes its own sender wait, and nobody else.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeVar

from federation.relay.h2.wire import DATA, END_STREAM, MAX_WINDOW, pack_head

QUANTUM_BYTES = 64 * 1024  # of one call at a time, where several share what a connection lets out
Piece = bytes | memoryview
Owner = TypeVar("Owner")


class Outlet(Protocol[Owner]):
    """A connection that takes DATA. `blocked` is whom to let go on when it takes more, in order."""

    window: int  # what its far end takes, of all streams
    max_frame: int
    paused: bool  # its transport is full
    blocked: dict[Owner, None]

    def send_data(self, head: bytes, piece: Piece) -> None:
        """Write a frame."""
        ...


class Memory:
    """What all flows of a switch hold together, in bytes, and how much they may."""

    __slots__ = ("held", "most")

    def __init__(self, most: int) -> None:
        self.held = 0
        self.most = most

    def __repr__(self) -> str:
        return f"Memory({self.held} of {self.most})"


class Flow:
    """One direction. `granted` is what the sender may still send to us, `window` what we may send
    on; `owed` are bytes that left and whose room has not been given back to the sender."""

    __slots__ = (
        "ended",
        "granted",
        "held",
        "last_frame",
        "memory",
        "owed",
        "pieces",
        "sent",
        "size",
        "window",
    )

    def __init__(self, size: int, memory: Memory | None = None) -> None:
        self.size = size
        self.memory = memory or Memory(MAX_WINDOW)
        self.granted = size
        self.window = 0
        self.pieces: deque[Piece] = deque()
        self.held = 0  # bytes in `pieces`
        self.owed = 0
        self.sent = 0  # bytes sent on, of all time
        self.ended = False  # no more comes
        self.last_frame = False  # END_STREAM was sent on

    def __repr__(self) -> str:
        return f"Flow(held={self.held}, window={self.window}, granted={self.granted})"

    def take(self, size: int) -> bool:
        """Count bytes that came; False if they are more than was granted."""
        self.granted -= size
        self.owed += size
        return self.granted >= 0

    def hold(self, piece: Piece) -> None:
        """Keep a piece until it can be sent on."""
        if piece:
            self.pieces.append(piece)
            self.held += len(piece)
            self.memory.held += len(piece)

    def let_go(self) -> deque[Piece]:
        """Hold nothing any more; return what was held."""
        pieces, self.pieces = self.pieces, deque()
        self.memory.held -= self.held
        self.held = 0
        return pieces

    def hold_first(self, pieces: Sequence[Piece]) -> None:
        """Hold pieces again that were sent, before all others."""
        size = sum(map(len, pieces))
        self.pieces.extendleft(reversed(pieces))
        self.held += size
        self.memory.held += size

    @property
    def too_much(self) -> bool:
        """Whether this holds something while all together hold more than they may."""
        return self.held > 0 and self.memory.held > self.memory.most

    def widen(self, size: int) -> bool:
        """The far end takes more; False if that is more than can be."""
        self.window += size
        return self.window <= MAX_WINDOW

    def give_back(self) -> int:
        """Return how much to grant to the sender now: what left, once that is half of the size."""
        free = self.owed - self.held
        if free < self.size >> 1:
            return 0
        self.owed -= free
        self.granted += free
        return free

    def pump(
        self, outlet: Outlet[Owner], owner: Owner, stream: int, quantum: int, *, ends: bool
    ) -> list[Piece]:
        """Send on what may be sent, `quantum` bytes at most, and return it.

        With `ends` the last frame says that nothing follows. What waits for the connection stands
        in its line as `owner`; what waits for its own window is called again by whoever opens it.
        """
        sent: list[Piece] = []
        pieces, done = self.pieces, 0
        while pieces:
            room = min(self.window, outlet.window, outlet.max_frame, quantum - done)
            if outlet.paused or room <= 0:
                if outlet.paused or outlet.window <= 0 or done >= quantum:
                    outlet.blocked[owner] = None
                break
            piece = pieces.popleft()
            size = len(piece)
            if size > room:
                view = memoryview(piece)
                pieces.appendleft(view[room:])
                piece, size = view[:room], room
            last = ends and self.ended and not pieces
            outlet.send_data(pack_head(size << 8 | DATA, last * END_STREAM, stream), piece)
            self.window -= size
            outlet.window -= size
            self.held -= size
            done += size
            sent.append(piece)
            self.last_frame = last
        self.sent += done
        self.memory.held -= done
        if ends and self.ended and not pieces and not self.last_frame:
            self.last_frame = True
            outlet.send_data(pack_head(DATA, END_STREAM, stream), b"")
        return sent
