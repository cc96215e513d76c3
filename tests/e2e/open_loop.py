"""Requests at a fixed schedule, whatever becomes of those before, and what became of each.

Input: a router, a rate. Output: for each request when it was due, how long after that it was
answered, by whom, after how many attempts; and whether the engines' own notes agree.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.e2e.regions import Regions

GIVE_UP_S = 30.0


@dataclass(frozen=True)
class Told:
    """One request and its answer. Times in seconds; `due_s` of the loop's clock."""

    number: int
    due_s: float
    took_s: float
    status: int  # 0 = none
    region: str = ""
    attempts: int = 0
    hedged: bool = False
    said: str = ""  # what is wrong with the answer

    @property
    def good(self) -> bool:
        return self.status == 200 and not self.said


@dataclass
class Load:
    """One client program."""

    built: Regions
    session: aiohttp.ClientSession
    rate: float
    told: list[Told] = field(default_factory=list)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1_000_000))

    async def run(self, seconds: float) -> list[Told]:
        """Ask for so long, and wait for all answers; returns what became of these requests."""
        async with self.running() as told:
            await asyncio.sleep(seconds)
        return told

    @asynccontextmanager
    async def running(self) -> AsyncIterator[list[Told]]:
        """Ask for as long as the context lives; at its end all are answered."""
        told: list[Told] = []
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send(group, told, stop))
            try:
                yield told
            finally:
                stop.set()
        self.told += told

    async def _send(self, group: asyncio.TaskGroup, told: list[Told], stop: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        due_s = clock()
        while not stop.is_set():
            group.create_task(self._one(next(self.numbers), due_s, told))
            due_s += 1 / self.rate
            await asyncio.sleep(max(0.0, due_s - clock()))

    async def _one(self, number: int, due_s: float, told: list[Told]) -> None:
        clock = asyncio.get_running_loop().time
        tensor = {"name": "number", "datatype": "INT64", "shape": [1], "data": [number]}
        head = {"authorization": f"Bearer {self.built.key}", "x-request-id": f"open-loop-{number}"}
        url = f"{self.built.router}/v2/models/work/infer"
        status, region, attempts, hedged, said = 0, "", 0, False, ""
        try:
            async with (
                asyncio.timeout(GIVE_UP_S),
                self.session.post(url, json={"inputs": [tensor]}, headers=head) as answer,
            ):
                status = answer.status
                region = answer.headers.get("x-fed-region", "")
                attempts = int(answer.headers.get("x-fed-attempts", "0"))
                hedged = "x-fed-hedged" in answer.headers
                body = await answer.json(content_type=None)
                if answer.headers.get("x-request-id") != head["x-request-id"]:
                    said = f"an answer to {answer.headers.get('x-request-id')}"
                elif status != 200:
                    said = str(body)
                elif body["outputs"][0]["data"] != [number]:
                    said = f"the answer of {body['outputs'][0]['data']}"
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            said = f"{type(error).__name__}: {error}"
        took_s = clock() - due_s
        told.append(Told(number, due_s, took_s, status, region, attempts, hedged, said))


def percentile(told: Sequence[Told], share: float) -> float:
    """Return a percentile of the times, 0 if there are none."""
    ordered = sorted(one.took_s for one in told)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def reconcile(told: Sequence[Told], built: Regions) -> list[str]:
    """Compare answers with what the engines noted; returns what does not agree.

    Each request has one answer, which is its own. It was begun at an engine, no more often than
    there were attempts, and one that was answered well was ended there.
    """
    began, ended = built.executed("began"), built.executed("ended")
    wrong = []
    numbers = [one.number for one in told]
    if len(set(numbers)) != len(numbers):
        wrong.append("a request has two answers")
    for one in told:
        times = began[str(one.number)]
        if one.status == 200 and not ended[str(one.number)]:
            wrong.append(f"{one}: answered, and no engine did it")
        if one.status == 200 and not 1 <= times <= one.attempts + one.hedged:
            wrong.append(f"{one}: begun {times} times")
    return wrong
