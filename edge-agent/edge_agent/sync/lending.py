"""The memory that transfers may take, all together: one budget for an agent, lent as buffers.

Input: asks of worker threads for a buffer of so many bytes, until it is given back. Output:
buffers; who asks when the budget is lent out waits, in order of arrival. What is given back is lent
again before new memory is taken, so lent and kept buffers together stay within the budget. One
exception keeps everybody moving: who has nothing lent gets one buffer at once. So a rollback never
waits for memory that a prefetch holds while its window is closed, and a chunk that is larger than
the whole budget can be fetched, one at a time.
"""

import contextlib
import mmap
import threading
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from edge_agent.sync.cancel import Cancel, Cancelled

BUDGET_BYTES = 5 << 20
_STEP_BYTES = 256 << 10  # sizes are rounded up to these, so that a buffer fits again
_LOOSE = 2  # a buffer is not lent to who needs less than its half


@dataclass(eq=False, slots=True)
class _Ask:
    size: int
    who: Hashable
    granted: threading.Event = field(default_factory=threading.Event)
    buffer: mmap.mmap | None = None


class Lender:
    """Thread-safe. `peak_bytes` is the most that was ever lent and kept at once."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self.peak_bytes = 0
        self._budget = budget_bytes
        self._lock = threading.Lock()
        self._queue: list[_Ask] = []
        self._kept: list[mmap.mmap] = []
        self._lent: dict[Hashable, int] = {}  # how many buffers each has
        self._lent_bytes = 0

    def __repr__(self) -> str:
        return f"Lender({self._lent_bytes} of {self._budget} bytes lent, {len(self._queue)} wait)"

    @property
    def held_bytes(self) -> int:
        """Bytes that are lent, or kept for the next who asks."""
        with self._lock:
            return self._held()

    @contextlib.contextmanager
    def lent(self, size: int, who: Hashable, cancel: Cancel) -> Iterator[memoryview]:
        """Wait for a buffer of at least `size` bytes, which is good inside only.

        `who` stands for all that must not wait for anybody else. Raises Cancelled.
        """
        ask = _Ask(max(1, -(-size // _STEP_BYTES)) * _STEP_BYTES, who)
        try:
            with cancel.waking(ask.granted.set):
                with self._lock:
                    self._queue.append(ask)
                    self._grant()
                ask.granted.wait()
                cancel.check()
            if ask.buffer is None:  # woken by the cancel that `check` tells of
                raise Cancelled
            with memoryview(ask.buffer) as view:
                yield view
        finally:
            self._end(ask)

    def forget(self) -> None:
        """Give what is kept back to the system: nothing is fetched any more."""
        with self._lock:
            self._kept.clear()

    def _end(self, ask: _Ask) -> None:
        with self._lock:
            if ask in self._queue:
                self._queue.remove(ask)
            if (buffer := ask.buffer) is not None:
                ask.buffer = None
                self._lent_bytes -= len(buffer)
                self._lent[ask.who] -= 1
                if not self._lent[ask.who]:
                    del self._lent[ask.who]
                if self._held() + len(buffer) <= self._budget:
                    self._kept.append(buffer)
            self._grant()

    def _grant(self) -> None:
        """Lend to those whose turn it is: to the first ones while there is room, and to whoever has
        nothing."""
        first = True
        for ask in tuple(self._queue):
            if (first and self._lent_bytes + ask.size <= self._budget) or ask.who not in self._lent:
                self._queue.remove(ask)
                ask.buffer = self._take(ask.size)
                self._lent[ask.who] = self._lent.get(ask.who, 0) + 1
                self._lent_bytes += len(ask.buffer)
                self.peak_bytes = max(self.peak_bytes, self._held())
                ask.granted.set()
            else:
                first = False

    def _take(self, size: int) -> mmap.mmap:
        fit = [buffer for buffer in self._kept if size <= len(buffer) <= _LOOSE * size]
        if fit:
            found = min(fit, key=len)
            self._kept.remove(found)
            return found
        while self._kept and self._held() + size > self._budget:
            del self._kept[0]
        # Not a bytearray: that is filled with zeros, used or not, and may come from the heap, which
        # keeps what is freed below anything that stays.
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def _held(self) -> int:
        return self._lent_bytes + sum(map(len, self._kept))
