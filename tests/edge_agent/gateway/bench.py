"""A gateway on a real socket before any engine, for the tests of the gateway's modules."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from prometheus_client import CollectorRegistry

from edge_agent.backends.base import Backend, Dialect, EngineRoute, Verb, engine_name
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.gateway.gateway import Gateway, GatewayLimits, ServedVersion
from federation.contract.types import ModelProtocol, VersionState
from tests.fakes.http_peers import serving

Key = tuple[str, int]
WARM = ServedVersion(VersionState.WARMED, ModelProtocol.TENSOR)
TEXT = ServedVersion(VersionState.WARMED, ModelProtocol.TEXT)


class PointingBackend(FakeBackend):
    """A backend whose every verb lives at one address, under an engine name of its own."""

    def __init__(self, url: str, *, dialect: Dialect = Dialect.NATIVE, named: bool = True) -> None:
        super().__init__(FakeEngine())
        self.url = url
        self.dialect = dialect
        self.named = named

    def route(
        self, model: str, version: int, verb: Verb, protocol: ModelProtocol
    ) -> EngineRoute | None:
        name = engine_name(model, version)
        dialect = Dialect.NATIVE if verb in (Verb.METADATA, Verb.READY) else self.dialect
        return EngineRoute(
            url=f"{self.url}/v2/models/{name}/{verb.value}",
            dialect=dialect,
            engine_model=name if self.named else "",
        )


@dataclass
class Bench:
    """A running gateway, a client, and what the gateway told the agent."""

    url: str
    gateway: Gateway
    client: aiohttp.ClientSession
    registry: CollectorRegistry
    served: dict[Key, ServedVersion]
    doubts: list[tuple[str, int, str]] = field(default_factory=list)

    async def post(
        self, path: str, body: bytes | dict[str, object] = b"", **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Post and return status, headers and the whole body."""
        data, document = (None, body) if isinstance(body, dict) else (body, None)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(
            self.url + path, data=data, json=document, headers=named
        ) as response:
            return response.status, response.headers, await response.read()

    async def get(self, path: str) -> tuple[int, Mapping[str, str], bytes]:
        """Get and return status, headers and the whole body."""
        async with self.client.get(self.url + path) as response:
            return response.status, response.headers, await response.read()

    async def idle(self, seconds: float = 1.0) -> bool:
        """Wait until the gateway has nothing in flight."""
        return await self.gateway.drained(seconds)


@asynccontextmanager
async def bench(
    backend: Backend,
    served: dict[Key, ServedVersion] | None = None,
    limits: GatewayLimits | None = None,
) -> AsyncIterator[Bench]:
    """Run a gateway before `backend`; by default it serves version 1 of `m` and of `text`."""
    served = {("m", 1): WARM, ("text", 1): TEXT} if served is None else served
    doubts: list[tuple[str, int, str]] = []
    registry = CollectorRegistry()
    gateway = Gateway(
        backend,
        lambda: served,
        lambda model, version, reason: doubts.append((model, version, reason)),
        limits=limits,
        registry=registry,
    )
    async with serving(gateway.application()) as url, aiohttp.ClientSession() as client:
        yield Bench(url, gateway, client, registry, served, doubts)


async def until(condition: object, seconds: float = 10.0) -> None:
    """Wait until a callable returns something true."""
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
