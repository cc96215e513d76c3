"""A word to worker threads that what they do is not wanted any more.

Input: `set`, from any thread. Output: blocked reads and waits end at once, with Cancelled.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator


class Cancelled(Exception):
    """Raised in a worker thread whose transfer was cancelled; nobody outside sees it."""


class Cancel:
    """One for each transfer. `waking` registers what unblocks a thread that waits elsewhere."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"Cancel({'set' if self.is_set else 'not set'})"

    @property
    def is_set(self) -> bool:
        """Whether it was cancelled."""
        return self._event.is_set()

    def set(self) -> None:
        """Cancel, and wake everybody."""
        self._event.set()
        with self._lock:
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def check(self) -> None:
        """Raise Cancelled if it was cancelled."""
        if self._event.is_set():
            raise Cancelled

    def sleep(self, seconds: float) -> None:
        """Sleep, or raise Cancelled as soon as it is cancelled."""
        if self._event.wait(seconds):
            raise Cancelled

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Have `wake` called when it is cancelled inside; raises Cancelled if it was before."""
        with self._lock:
            self._wakers.append(wake)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._wakers.remove(wake)
