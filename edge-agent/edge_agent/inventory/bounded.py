"""Calls into a driver that may hang: in a thread of their own, with a deadline.

Input: a function. Output: its answer, or TimeoutError while it hangs. A call that hangs is not made
a second time: a sick driver costs one thread at most, which does not hold up the process's end.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedCall(Generic[T]):
    """One function, asked again and again."""

    def __init__(self, name: str, call: Callable[[], T]) -> None:
        self._name = name
        self._call = call
        self._pending: asyncio.Future[T] | None = None

    def __repr__(self) -> str:
        return f"BoundedCall({self._name}{', pending' if self.pending else ''})"

    @property
    def pending(self) -> bool:
        """Whether a call has not been answered yet."""
        return self._pending is not None

    async def ask(self, deadline_s: float) -> T:
        """Return the answer; raises TimeoutError if it takes longer, or what the function raises.

        After a timeout the next call waits for the same answer.
        """
        if self._pending is None:
            self._pending = _in_daemon_thread(self._name, self._call)
        async with asyncio.timeout(deadline_s):
            await asyncio.wait([self._pending])
        answered, self._pending = self._pending, None
        return answered.result()


def _in_daemon_thread(name: str, call: Callable[[], T]) -> "asyncio.Future[T]":
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        settle: Callable[[], None]
        try:
            answer = call()
        except Exception as error:  # noqa: BLE001  # raised again where it is waited for
            settle = _failing(future, error)
        else:
            settle = _answering(future, answer)
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future


def _answering(future: "asyncio.Future[T]", answer: T) -> Callable[[], None]:
    return lambda: None if future.done() else future.set_result(answer)


def _failing(future: "asyncio.Future[T]", error: Exception) -> Callable[[], None]:
    def settle() -> None:
        if not future.done():
            future.set_exception(error)
            future.exception()  # it may be that nobody asks any more

    return settle
