"""Load from clients all over the world, in an open loop.

Input: the routers with their places, the client networks, a key, a rate. Output: an Outcome for
each request. Arrivals are a Poisson process and wait for nobody. A client goes to its nearest
router first, as anycast or DNS would send it, and to the next one when the connection fails.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

import aiohttp

from federation.contract.types import Location
from federation.demo.geography import Client, distance_km
from federation.demo.load_stats import Outcome
from federation.demo.payloads import Answer, Request

_TRIES = 4  # of one client, over all its routers
_PAUSE_S = 0.05  # before the third try: both routers were lost
_TIMEOUT = aiohttp.ClientTimeout(total=15, sock_connect=2)


@dataclass(frozen=True, slots=True)
class RouterAt:
    """A router and where its point of presence is."""

    name: str
    url: str
    location: Location


class Load:
    """A load generator; an async context manager. `outcomes` grows while it runs."""

    def __init__(
        self,
        routers: Sequence[RouterAt],
        clients: Sequence[Client],
        mix: Sequence[tuple[int, Request]],
        dice: random.Random,
        *,
        key: str = "",
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.in_flight = 0
        self._ways = [(client, nearest_first(client, routers)) for client in clients]
        self._weights, self._requests = zip(*mix, strict=True)
        self._dice = dice
        self._started_s = asyncio.get_running_loop().time()
        self._session = aiohttp.ClientSession(
            timeout=_TIMEOUT,
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            headers={"authorization": f"Bearer {key}"} if key else {},
        )

    def __repr__(self) -> str:
        return f"Load(done={len(self.outcomes)}, in_flight={self.in_flight})"

    async def __aenter__(self) -> "Load":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._session.close()

    def elapsed_s(self) -> float:
        """Return the seconds since the start, the unit of `Outcome.due_s`."""
        return asyncio.get_running_loop().time() - self._started_s

    async def run(self, rate: float, going: Callable[[float], bool]) -> None:
        """Send `rate` requests a second on average while `going(elapsed_s)`; then wait for all."""
        loop = asyncio.get_running_loop()
        self._started_s = loop.time()
        due_s = 0.0
        async with asyncio.TaskGroup() as tasks:
            while going(due_s):
                due_s += self._dice.expovariate(rate)
                await asyncio.sleep(max(0.0, due_s - self.elapsed_s()))
                request = self._dice.choices(self._requests, self._weights)[0]
                client, routers = self._dice.choice(self._ways)
                tasks.create_task(self._one(due_s, request, client, routers))

    async def _one(
        self, due_s: float, request: Request, client: Client, routers: Sequence[RouterAt]
    ) -> None:
        self.in_flight += 1
        answer: Answer | None = None
        error, sent, router = "", 0, routers[0]
        while sent < _TRIES and answer is None:
            router = routers[sent % len(routers)]
            if sent >= len(routers):
                await asyncio.sleep(_PAUSE_S * sent)
            sent += 1
            try:
                answer = await self._post(router, request, client)
            except (aiohttp.ClientError, TimeoutError, OSError) as failure:
                error = f"{router.name}: {type(failure).__name__} {failure}".strip()
        self.in_flight -= 1
        headers = answer.headers if answer else {}
        self.outcomes.append(
            Outcome(
                due_s=due_s,
                latency_s=self.elapsed_s() - due_s,
                kind=request.kind,
                continent=client.continent,
                router=router.name,
                region=headers.get("x-fed-region", ""),
                version=headers.get("x-fed-model-version", ""),
                attempts=_number(headers.get("x-fed-attempts", "1")),
                sent=sent,
                error=_problem(request, answer) if answer else error,
            )
        )

    async def _post(self, router: RouterAt, request: Request, client: Client) -> Answer:
        """Send one request; raises aiohttp.ClientError when the connection or a stream breaks."""
        headers = {**request.headers, "x-forwarded-for": client.address}
        async with self._session.post(
            router.url + request.path, data=request.body, headers=headers
        ) as response:
            lowered = {name.lower(): value for name, value in response.headers.items()}
            answer = Answer(status=response.status, headers=lowered, body=await response.read())
        if answer.status == 200 and request.problem(answer) == "incomplete stream":
            # What every client of a stream has to do: half of an answer is none.
            raise aiohttp.ClientPayloadError("the stream broke off")
        return answer


def nearest_first(client: Client, routers: Sequence[RouterAt]) -> list[RouterAt]:
    """Return the routers by their distance from a client."""
    return sorted(routers, key=lambda router: distance_km(client.location, router.location))


def _problem(request: Request, answer: Answer) -> str:
    if answer.status != 200:
        return (
            f"{request.kind}: HTTP {answer.status} {answer.body[:160].decode('utf-8', 'replace')}"
        )
    problem = request.problem(answer)
    return f"{request.kind}: {problem}" if problem else ""


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 1
