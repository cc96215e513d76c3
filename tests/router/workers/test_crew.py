"""Workers as processes that only say what a worker would say."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from federation.contract.errors import Invalid, NotFound, Unavailable
from router.workers import crew as crews
from router.workers import frames
from router.workers.crew import Crew
from tests.router.fakes import eventually

# Says what it is given, then waits for Stop or the end.
ACTOR = """
import socket, sys
keeper = socket.socket(fileno=int(sys.argv[2]))
keeper.sendall(bytes.fromhex(sys.argv[1]))
heard = b""
while b"Stop" not in heard:
    data = keeper.recv(65536)
    if not data:
        break
    heard += data
"""


def actor(*words: frames.Word) -> tuple[str, ...]:
    said = frames.PREAMBLE + b"".join(frames.frame(word) for word in words)
    return (sys.executable, "-I", "-c", ACTOR, said.hex())


UP = frames.Up(("127.0.0.1", 1))


@asynccontextmanager
async def a_crew(size: int, command: tuple[str, ...]) -> AsyncIterator[Crew]:
    crew = Crew(size, opening=lambda _: [frames.Standing()], dice=random.Random(1), command=command)
    try:
        yield crew
    finally:
        await crew.stop(10.0)
        assert all(post.process is None for post in crew.posts)


async def test_a_worker_that_is_killed_comes_back_and_what_it_said_stays() -> None:
    report = frames.Report(requests=3)
    async with a_crew(2, actor(UP, report)) as crew:
        await crew.start(asyncio.Event())
        crew.require_all()
        await eventually(lambda: crew.ledger.requests == 6)
        process = crew.posts[0].process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        await eventually(lambda: crew.restarts == 1 and crew.posts[0].up, within_s=10)
        await eventually(lambda: crew.ledger.requests == 9)
        assert repr(crew) == "Crew(2 of 2 serve, 1 restarts)"


async def test_one_that_has_begun_is_spoken_to_and_one_that_died_meanwhile_is_replaced() -> None:
    command = actor(UP)
    async with a_crew(2, command) as starter:
        living, dead = await starter.begin(0), await starter.begin(1)
    dead.process.kill()
    await dead.process.wait()
    crew = Crew(
        2, opening=lambda _: [], dice=random.Random(1), command=command, begun=(living, dead)
    )
    try:
        await crew.start(asyncio.Event())
        first, second = (post.process for post in crew.posts)
        assert first is living.process
        assert second is not dead.process
        assert [post.restarts for post in crew.posts] == [0, 1]
    finally:
        await crew.stop(10.0)


async def test_workers_that_end_at_once_are_a_failure_to_start() -> None:
    async with a_crew(1, (sys.executable, "-I", "-c", "")) as crew:
        with pytest.raises(Unavailable, match="ends before it serves"):
            await crew.start(asyncio.Event())
        with pytest.raises(Unavailable, match="1 of 1 workers do not serve: 0"):
            crew.require_all()


async def test_a_stop_comes_through_while_they_start() -> None:
    stop = asyncio.Event()
    async with a_crew(1, actor()) as crew:
        asyncio.get_running_loop().call_later(0.05, stop.set)
        async with asyncio.timeout(10):
            await crew.start(stop)


async def test_a_worker_that_says_nothing_any_more_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crews, "HUNG_S", 0.5)
    async with a_crew(1, actor(UP)) as crew:
        await crew.start(asyncio.Event())
        await eventually(lambda: crew.restarts > 0, within_s=10)


async def test_a_table_is_in_use_when_all_say_so() -> None:
    async with a_crew(2, actor(UP, frames.Applied(1))) as crew:
        await crew.start(asyncio.Event())
        async with asyncio.timeout(10):
            await crew.settled(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await crew.settled(2)
    async with a_crew(1, actor(UP, frames.Applied(1, "too odd."))) as crew:
        await crew.start(asyncio.Event())
        with pytest.raises(Invalid, match="Worker 0 refuses it: too odd"):
            await crew.settled(1)


async def test_answers_errors_and_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_crew(1, actor(UP)) as crew:
        await crew.start(asyncio.Event())
        (post,) = crew.posts
        asking = asyncio.get_running_loop().create_task(crew.ask("record", {"request": "a"}))
        await eventually(lambda: bool(post.questions))
        crew.hear(post, frames.Answer(1, b"{}"))
        assert await asking == [frames.Answer(1, b"{}")]
        asking = asyncio.get_running_loop().create_task(crew.ask("record"))
        await eventually(lambda: bool(post.questions))
        crew.hear(post, frames.Answer(2, kind="NotFound", message="no."))
        (error,) = await asking
        assert isinstance(error, NotFound)
        monkeypatch.setattr(crews, "ANSWER_S", 0.05)
        assert await crew.ask("record") == []
        await eventually(lambda: not post.questions)
