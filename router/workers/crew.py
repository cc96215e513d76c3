"""The worker processes of one router: started, spoken to, started again, stopped.

Input: what is to be said to all of them (`Orders`), questions. Output: processes that serve;
answers; what they report, in a ledger. A worker that ends unasked is started again, at once the
first time and more slowly if that goes on; one that does not answer for long is killed.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from federation.contract.errors import FederationError, Invalid, Unavailable
from federation.runtime.backoff import Backoff, Dice
from federation.runtime.supervise import Supervisor
from router.workers import frames
from router.workers.answering import raise_for
from router.workers.ledger import Ledger
from router.workers.link import Link, attach
from router.workers.splitting import Begun, Process

log = logging.getLogger(__name__)

ANSWER_S = 2.0  # for a worker to answer a question
HUNG_S = 30.0  # without a word: it is killed
STEADY_S = 60.0
START_S = 60.0  # for all of them to serve for the first time
_FAREWELL_S = 5.0
COMMAND = (sys.executable, "-m", "router.workers")


@dataclass(slots=True)
class Post:
    """The place of one worker, whichever process has it."""

    number: int
    begun: Begun | None = None  # the first one, which waits to be spoken to
    process: Process | None = None
    link: Link[frames.Word] | None = None
    up: bool = False
    applied: int = 0  # the number of the last table that it routes by, or refused
    restarts: int = 0
    heard_s: float = 0.0
    why: str = ""  # it refused that table
    questions: dict[int, "asyncio.Future[frames.Answer]"] = field(default_factory=dict)


class Crew:
    """All workers of a router.

    `opening(number)` returns what a new one is told first, `handed(number)` the sockets that it
    inherits: that of clients, that of agents, None = it has no such. `begun` are first ones that
    wait already. `ledger` holds what they report; `on_report` is called after each report.
    """

    def __init__(
        self,
        size: int,
        *,
        opening: Callable[[int], Sequence[frames.Order]],
        handed: Callable[[int], Sequence[socket.socket | None]] = lambda _: (None, None),
        dice: Dice,
        command: Sequence[str] = COMMAND,
        begun: Sequence[Begun] = (),
    ) -> None:
        self.ledger = Ledger()
        self.on_report: list[Callable[[], None]] = []
        self.posts = [Post(number) for number in range(size)]
        for post, first in zip(self.posts, begun, strict=False):
            post.begun = first
        self._opening = opening
        self._handed = handed
        self._command = command
        self._dice = dice
        self._supervisor = Supervisor(dice=dice)
        self._changed = asyncio.Event()
        self._asked = 0
        self._stopping = False
        self._broken = ""  # why the workers cannot serve, before they ever did

    def __repr__(self) -> str:
        up = sum(post.up for post in self.posts)
        return f"Crew({up} of {len(self.posts)} serve, {self.restarts} restarts)"

    @property
    def restarts(self) -> int:
        """How often a worker was started again."""
        return sum(post.restarts for post in self.posts)

    def require_all(self) -> None:
        """Raise Unavailable unless all workers serve."""
        missing = [str(post.number) for post in self.posts if not post.up]
        if missing:
            raise Unavailable(
                f"{len(missing)} of {len(self.posts)} workers do not serve: {', '.join(missing)}.",
                hint="They are started again; the log tells why they ended.",
                reason="workers-missing",
            )

    # ------------------------------------------------------------ coming and going

    async def start(self, stop: asyncio.Event) -> None:
        """Start all workers; return when they serve or `stop` is set, or raise Unavailable."""
        for post in self.posts:
            self._supervisor.start(f"worker {post.number}", partial(self._keep, post))
        self._supervisor.start("watch over workers", self._watch_over)
        loop = asyncio.get_running_loop()
        stopped = loop.create_task(stop.wait())
        stopped.add_done_callback(lambda _: self._changed.set())
        try:
            async with asyncio.timeout(START_S):
                await self._until(
                    lambda: stop.is_set() or bool(self._broken) or all(p.up for p in self.posts)
                )
        except TimeoutError:
            self.require_all()
        finally:
            stopped.cancel()
        if self._broken:
            raise Unavailable(self._broken, hint="The log tells why.", reason="workers-missing")

    async def stop(self, grace_s: float) -> None:
        """Let all workers finish what they do, for `grace_s` at most; then end them."""
        self._stopping = True
        self.tell(frames.Stop())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._until(lambda: all(p.process is None for p in self.posts))
        await self._supervisor.stop()

    async def _keep(self, post: Post) -> None:
        """Have a process at a post until the router stops."""
        backoff, failures, loop = Backoff(first_s=0.1, cap_s=5.0), 0, asyncio.get_running_loop()
        while not self._stopping:
            started_s, served = loop.time(), False
            try:
                served = await self._one(post)
            except OSError as error:
                log.error("worker %d cannot be started: %s", post.number, error)  # noqa: TRY400
            if self._stopping:
                return
            failures = 0 if served and loop.time() - started_s > STEADY_S else failures + 1
            if not served and failures >= 3 and not any(p.up for p in self.posts):
                self._broken = self._broken or f"Worker {post.number} ends before it serves."
                self._changed.set()
            post.restarts += 1
            delay_s = backoff.delay_s(failures, self._dice) if failures > 1 else 0.0
            log.warning("worker %d starts again in %.1f s", post.number, delay_s)
            await asyncio.sleep(delay_s)

    async def _one(self, post: Post) -> bool:
        """Run a process until it ends; return whether it served."""
        begun, post.begun = post.begun or await self.begin(post.number), None
        post.process = process = begun.process
        try:
            post.link = link = await attach(begun.link, frames.word)
        except BaseException:
            begun.link.close()
            raise
        served = False
        try:
            self._greet(post, link)
            async for word in link:
                served = served or isinstance(word, frames.Up)
                self.hear(post, word)
        finally:
            post.link, post.up = None, False
            self.ledger.ended(post.number)
            self._abandon(post)
            await asyncio.shield(self._bury(process, link))
            post.process = None
            self._changed.set()
        if not self._stopping:
            log.warning("worker %d ended: %s", post.number, _how(process.returncode))
        return served

    async def begin(self, number: int) -> Begun:
        """Start a worker anew; it waits to be spoken to. Raises OSError."""
        mine, theirs = socket.socketpair()
        with theirs:
            handed = [theirs, *self._handed(number)]
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    *("-" if s is None else str(s.fileno()) for s in handed),
                    pass_fds=[s.fileno() for s in handed if s is not None],
                    stdin=asyncio.subprocess.DEVNULL,
                )
            except BaseException:
                mine.close()
                raise
        return Begun(process, mine)

    def _greet(self, post: Post, link: Link[frames.Word]) -> None:
        post.applied, post.why = 0, ""
        post.heard_s = asyncio.get_running_loop().time()
        for order in self._opening(post.number):
            link.send(order)
        link.send(frames.Stop() if self._stopping else frames.Go())

    async def _bury(self, process: Process, link: Link[frames.Word]) -> None:
        """Wait for the end of a process that is out of touch; see to it."""
        await link.close()
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _watch_over(self) -> None:
        """Kill workers that say nothing any more: they report every second."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            for post in self.posts:
                if post.process and post.link and loop.time() - post.heard_s > HUNG_S:
                    log.error("worker %d said nothing for %.0f s: killed", post.number, HUNG_S)
                    post.heard_s = loop.time()
                    with contextlib.suppress(ProcessLookupError):
                        post.process.kill()

    # ------------------------------------------------------------ speaking and hearing

    def tell(self, order: frames.Order) -> None:
        """Say something to all."""
        for post in self.posts:
            if post.link is not None:
                post.link.send(order)

    async def settled(self, number: int) -> None:
        """Return when each worker that lives routes by the table of that number, or a later one.
        Raises Invalid with the reason if one refuses it."""
        await self._until(lambda: all(p.link is None or p.applied >= number for p in self.posts))
        for post in self.posts:
            if post.applied == number and post.why:
                raise Invalid(f"Worker {post.number} refuses it: {post.why}")

    async def ask(
        self, what: str, arguments: Mapping[str, str] | None = None
    ) -> list[frames.Answer | FederationError]:
        """Return the answers of all workers that serve, in their order; those that do not answer in
        time are left out."""
        given = dict(arguments or {})
        asked = [self._question(post, what, given) for post in self.posts if post.up]
        if asked:
            await asyncio.wait(asked, timeout=ANSWER_S)
        found: list[frames.Answer | FederationError] = []
        for question in asked:
            if not question.done():
                question.cancel()
            elif not question.cancelled():
                found.append(_result(question.result()))
        return found

    def _question(
        self, post: Post, what: str, arguments: dict[str, str]
    ) -> "asyncio.Future[frames.Answer]":
        self._asked += 1
        number = self._asked
        question = asyncio.get_running_loop().create_future()
        post.questions[number] = question
        question.add_done_callback(lambda _: post.questions.pop(number, None))
        if post.link is not None:
            post.link.send(frames.Ask(number, what, arguments))
        return question

    def hear(self, post: Post, word: frames.Word) -> None:
        """Take in what a worker says."""
        post.heard_s = asyncio.get_running_loop().time()
        match word:
            case frames.Up():
                post.up = True
                self._changed.set()
            case frames.Applied():
                post.applied, post.why = word.number, word.error
                self._changed.set()
            case frames.Report():
                self.ledger.of(post.number).take(word)
                for tell in self.on_report:
                    tell()
            case frames.Figures():
                self.ledger.of(post.number).families = word.families
            case frames.Answer():
                question = post.questions.get(word.id)
                if question is not None and not question.done():
                    question.set_result(word)

    def _abandon(self, post: Post) -> None:
        for question in list(post.questions.values()):
            question.cancel()

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self._changed.clear()
            await self._changed.wait()


def _result(answer: frames.Answer) -> frames.Answer | FederationError:
    try:
        return raise_for(answer)
    except FederationError as error:
        return error


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by signal {-code}"
    return f"exit {code}"
