"""Requests at a fixed schedule, whatever becomes of those before, and what became of each.

Input: a router, a rate; HTTP or gRPC. Output: for each request when it was due, how long after that
it was answered, by whom, after how many attempts; and whether the engines' own notes agree.
"""

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.e2e.regions import Regions

GIVE_UP_S = 30.0


@dataclass(frozen=True)
class Told:
    """One request and its answer. Times in seconds; `due_s` of the loop's clock."""

    number: int
    due_s: float
    took_s: float
    status: int  # of HTTP, 200 for a gRPC call that went well; 0 and less = none
    region: str = ""
    attempts: int = 0
    hedged: bool = False
    said: str = ""  # what is wrong with the answer

    @property
    def good(self) -> bool:
        return self.status == 200 and not self.said


@dataclass
class Seen:
    """What a client sees of one answer."""

    status: int = 0
    answers_to: str = ""
    region: str = ""
    attempts: int = 0
    hedged: bool = False
    number: int | None = None
    said: str = ""

    def read(self, head: Mapping[str, str]) -> None:
        """Take in the head of an answer, or its metadata."""
        self.answers_to = head.get("x-request-id", "")
        self.region = head.get("x-fed-region", "")
        self.attempts = int(head.get("x-fed-attempts", "0"))
        self.hedged = "x-fed-hedged" in head


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
        request_id, seen = f"open-loop-{number}", Seen()
        try:
            async with asyncio.timeout(GIVE_UP_S):
                await self._ask(number, request_id, seen)
        except (aiohttp.ClientError, grpc.RpcError, TimeoutError, ValueError) as error:
            seen.said = f"{type(error).__name__}: {error}"
        if not seen.said and seen.answers_to != request_id:
            seen.said = f"an answer to {seen.answers_to}"
        if not seen.said and seen.number != number:
            seen.said = f"the answer of {seen.number}"
        took_s = clock() - due_s
        region, attempts, hedged = seen.region, seen.attempts, seen.hedged
        told.append(Told(number, due_s, took_s, seen.status, region, attempts, hedged, seen.said))

    async def _ask(self, number: int, request_id: str, seen: Seen) -> None:
        tensor = {"name": "number", "datatype": "INT64", "shape": [1], "data": [number]}
        head = {"authorization": f"Bearer {self.built.key}", "x-request-id": request_id}
        url = f"{self.built.router}/v2/models/work/infer"
        async with self.session.post(url, json={"inputs": [tensor]}, headers=head) as answer:
            seen.status = answer.status
            seen.read(answer.headers)
            body = await answer.json(content_type=None)
            if answer.status == 200:
                seen.number = body["outputs"][0]["data"][0]
            else:
                seen.said = str(body)


@dataclass
class Calls(Load):
    """The same over gRPC, on one connection."""

    channel: grpc.aio.Channel | None = None

    @classmethod
    @asynccontextmanager
    async def beside(cls, load: Load) -> AsyncIterator["Calls"]:
        """A client that goes on with the numbers of another one."""
        address = load.built.router.removeprefix("http://")
        async with grpc.aio.insecure_channel(address) as channel:
            yield cls(load.built, load.session, load.rate, numbers=load.numbers, channel=channel)

    async def _ask(self, number: int, request_id: str, seen: Seen) -> None:
        assert self.channel is not None
        tensor = service_pb2.ModelInferRequest.InferInputTensor(
            name="number", datatype="INT64", shape=[1]
        )
        tensor.contents.int64_contents.append(number)
        request = service_pb2.ModelInferRequest(model_name="work", inputs=[tensor])
        metadata = (("authorization", f"Bearer {self.built.key}"), ("x-request-id", request_id))
        call = service_pb2_grpc.GRPCInferenceServiceStub(self.channel).ModelInfer(
            request, metadata=metadata
        )
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            seen.status, seen.said = -1, f"{error.code().name}: {error.details()}"
            return
        seen.status = 200
        seen.read(dict(await call.initial_metadata()))
        (seen.number,) = struct.unpack("<q", answer.raw_output_contents[0])


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
