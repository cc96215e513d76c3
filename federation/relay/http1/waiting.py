"""Waiting without tasks: coroutines that are driven by what happens on a connection.

Input: coroutines that answer requests. Output: their results. A task and a future per request cost
more than all else that a relay does for a small one. So a handler is stepped at once, in the
callback that brought its request, and again in the callback that brings what it waits for (Pause).
A handler that waits for anything of asyncio's becomes a task at that moment, and stays one.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

NEVER = float("inf")  # an alarm that is `due_s` then does not ring
STOOD_STILL_S = 0.005  # a timer that is so late
_AS_LONG_S = 1.0  # at most, an alarm waits then


class Pause:
    """One wait. `wake` lets who waits go on, at once if it is driven; tasks may await it too: to
    them it looks like one of asyncio's futures."""

    __slots__ = ("_asyncio_future_blocking", "_error", "_loop", "_over", "_tell", "resume")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.resume: Callable[[BaseException | None], None] | None = None
        self._loop = loop
        self._tell: list[tuple[Callable[[Any], object], Context | None]] = []
        self._error: BaseException | None = None
        self._over = False
        self._asyncio_future_blocking = False

    def __await__(self) -> Generator["Pause", None, None]:
        if not self._over:
            self._asyncio_future_blocking = True
            yield self
        if self._error is not None:
            raise self._error

    def wake(self, error: BaseException | None = None) -> None:
        """End the wait, with an error if one is given; a second call changes nothing."""
        if self._over:
            return
        self._over, self._error = True, error
        resume, self.resume = self.resume, None
        if resume is not None:
            resume(None)
        for tell, context in self._tell:
            self._loop.call_soon(tell, self, context=context)

    # ------------------------------------------------------------ what a task asks of a future

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._loop

    def add_done_callback(
        self, tell: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        """Call `tell` soon after the end."""
        if self._over:
            self._loop.call_soon(tell, self, context=context)
        else:
            self._tell.append((tell, context))

    def cancel(self, msg: object = None) -> bool:
        """End the wait of a task that is cancelled."""
        if self._over:
            return False
        self.wake(asyncio.CancelledError())
        return True

    def result(self) -> None:
        """Raise what ended the wait, if it was an error."""
        if self._error is not None:
            raise self._error


class Alarm:
    """One deadline that is moved often and seldom reached: moving it costs no timer. After this
    process stood still, it waits as long again: that time was ours, and what came meanwhile is read
    first. To set `due_s` to NEVER is to `clear` it, without a call."""

    __slots__ = ("_again", "_handle", "_handle_s", "_loop", "_ring", "due_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self.due_s = self._handle_s = NEVER
        self._again = False
        self._handle: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Ring in so many seconds, instead of when it would have."""
        self.due_s = due_s = self._loop.time() + seconds
        if due_s < self._handle_s:
            self._arm(due_s)

    def set_at(self, due_s: float) -> None:
        """Ring at that moment of the loop's clock, instead of when it would have."""
        self.due_s = due_s
        if due_s < self._handle_s:
            self._arm(due_s)

    def clear(self) -> None:
        """Do not ring."""
        self.due_s = NEVER

    def close(self) -> None:
        """Never ring again."""
        self.due_s = self._handle_s = NEVER
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, due_s: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle_s = due_s
        self._handle = self._loop.call_at(due_s, self._fired)

    def _fired(self) -> None:
        self._handle, self._handle_s = None, NEVER
        again, self._again = self._again, False
        if self.due_s == NEVER:
            return
        late_s = self._loop.time() - self.due_s
        if late_s < -0.002:  # uvloop counts milliseconds
            self._arm(self.due_s)
        elif late_s > STOOD_STILL_S and not again:
            self._again = True
            self._arm(self._loop.time() + min(late_s, _AS_LONG_S))
        else:
            self.due_s = NEVER
            self._ring()


class Drive:
    """One coroutine on its way. `done` is called once with its result or its error."""

    __slots__ = ("_cancelled", "_coro", "_done", "_loop", "_pause", "_running", "task")

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        done: Callable[[Any, BaseException | None], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._coro = coro
        self._done = done
        self._loop = loop
        self._pause: Pause | None = None
        self._running = self._cancelled = False
        self.task: asyncio.Task[Any] | None = None  # once it is one

    def __repr__(self) -> str:
        return f"Drive({self._coro!r}, {'task' if self.task else 'driven'})"

    def step(self, error: BaseException | None = None) -> None:
        """Let the coroutine run until it waits or ends."""
        self._pause = None
        self._running = True
        try:
            awaited = self._coro.send(None) if error is None else self._coro.throw(error)
        except StopIteration as end:
            self._done(end.value, None)
            return
        except BaseException as fault:  # noqa: BLE001  # whatever it is, `done` has to learn of it
            self._done(None, fault)
            return
        finally:
            self._running = False
        if type(awaited) is Pause:
            self._pause = awaited
            awaited.resume = self.step
            if self._cancelled:
                self._loop.call_soon(self.cancel)
        else:
            self._become_task(awaited)

    def cancel(self) -> None:
        """Raise CancelledError inside, where it waits."""
        if self.task is not None:
            self.task.cancel()
        elif self._running:
            self._cancelled = True
        elif self._pause is not None:
            self._pause.resume = None
            self.step(asyncio.CancelledError())

    def _become_task(self, awaited: Any) -> None:
        self.task = self._loop.create_task(_rest(self._coro, awaited))
        self.task.add_done_callback(self._task_done)
        if self._cancelled:
            self.task.cancel()

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self._done(None, asyncio.CancelledError())
        elif (fault := task.exception()) is not None:
            self._done(None, fault)
        else:
            self._done(task.result(), None)


async def _rest(coro: Coroutine[Any, Any, Any], awaited: Any) -> Any:
    return await _Rest(coro, awaited)


class _Rest:
    """A coroutine from where it waits for `awaited` to its end."""

    def __init__(self, coro: Coroutine[Any, Any, Any], awaited: Any) -> None:
        self._coro = coro
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        coro, awaited = self._coro, self._awaited
        while True:
            try:
                value = yield awaited
            except GeneratorExit:
                coro.close()
                raise
            except BaseException as error:  # noqa: BLE001  # the coroutine's to handle
                try:
                    awaited = coro.throw(error)
                except StopIteration as end:
                    return end.value
            else:
                try:
                    awaited = coro.send(value)
                except StopIteration as end:
                    return end.value


class _TaskPlease:
    """Yields once; a drive that meets it makes a task of its coroutine."""

    def __await__(self) -> Generator[None, None, None]:
        yield None


async def in_task() -> None:
    """Go on in a task: `asyncio.timeout` and its like need one."""
    await _TaskPlease()
