"""A cluster without a port of its own, and a router that it dials: the real parts over real TLS.

Input: a directory, which way the connections are made. Output: a Site (fake engine, real gateway,
dialler) and a Router (pool, upstreams, proxy) in this process, which a test starts and stops.
"""

import asyncio
import io
import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import uvloop

from edge_agent.backends.base import LoadedVersion
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.gateway.gateway import Gateway, GatewayLimits, ServedVersion
from edge_agent.gateway.grpc_service import GrpcService as GatewayGrpc
from edge_agent.policy.reversing import Stock, StockLimits
from edge_agent.reverse import ReverseDialler, ReverseSettings
from federation.contract.spiffe import PeerRole
from federation.contract.trust import RouterAddress
from federation.contract.types import (
    Connectivity,
    Endpoint,
    ModelProtocol,
    ModelRoute,
    Replica,
    Snapshot,
    VersionState,
)
from federation.identity.authority import Authority
from federation.relay.application import Application
from federation.relay.guard import PeerGuard
from federation.relay.server import BodyLimits, ServerLimits, listen, make_runner
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from router.geo import Locator
from router.grpc.service import GrpcService
from router.metrics.requests import Metrics
from router.policy import table as tables
from router.policy.admission import Admission
from router.request.call import ProxyLimits
from router.request.proxy import Proxy
from router.state import RouterState
from router.upstream.http import Upstreams
from router.upstream.lending import Counts
from router.upstream.reverse import ReversePool
from tests.pki import credentials_for
from tests.router.grpc.world import FakeSpeaker

CLUSTER = "eu-1"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
MODELS = {"m": ModelProtocol.TENSOR, "text": ModelProtocol.TEXT}
INFER, CHAT = "/v2/models/m/infer", "/v1/chat/completions"


def run(loop: str, scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario on one kind of event loop."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scenario)


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until a condition holds, for a limited time."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


class Site:
    """A cluster: its engine, its gateway, and the dialler or (dialled) a listening port."""

    def __init__(
        self, authority: Authority, *, stock: StockLimits | None = None, name: str = CLUSTER
    ) -> None:
        self.name = name
        self.engine = FakeEngine()
        self.credentials = credentials_for(authority, PeerRole.CLUSTER, name)
        self.gateway: Gateway | None = None
        self.dialler: ReverseDialler | None = None
        self.url = ""
        self.grpc_address = ""  # of an engine that speaks gRPC
        self.grpc: GatewayGrpc | None = None
        self._stock = stock or StockLimits()
        self._stack = AsyncExitStack()
        self._running: asyncio.Task[None] | None = None

    async def start_engine(self) -> None:
        await self.engine.start()
        for model, protocol in MODELS.items():
            await self.engine.load(LoadedVersion(model=model, version=1, protocol=protocol))

    def _application(self) -> Application:
        served = {
            (model, 1): ServedVersion(VersionState.WARMED, protocol)
            for model, protocol in MODELS.items()
        }
        self.gateway = Gateway(
            FakeBackend(self.engine),
            served=lambda: served,
            on_doubt=lambda *_: None,
            limits=GatewayLimits(in_flight=1000),
        )
        guard = PeerGuard(self.credentials, PeerRole.ROUTER, SystemClock())
        application = self.gateway.application(guard)
        if self.grpc_address:
            speaker: Any = FakeSpeaker(self.grpc_address)
            self.grpc = GatewayGrpc(speaker, self.gateway.desk(), clock=SystemClock(), guard=guard)
            application.on_h2 = self.grpc.switch.takeover
            application.on_cleanup.append(self.grpc.switch.close)
        return application

    async def dial(self, *routers: RouterAddress) -> ReverseDialler:
        self.dialler = ReverseDialler(
            self._application(),
            credentials=self.credentials,
            clock=SystemClock(),
            dice=random.Random(1),
            settings=ReverseSettings(stock=self._stock),
        )
        await self.dialler.start()
        self.dialler.use(routers)
        self._running = asyncio.get_running_loop().create_task(self.dialler.run())
        return self.dialler

    async def listen(self) -> None:
        runner = make_runner(self._application(), ServerLimits(shutdown_s=0.5))
        self._stack.push_async_callback(runner.cleanup)
        context = self.credentials.server_context()
        host, port = await listen(runner, "127.0.0.1:0", context)
        self.url = f"https://{host}:{port}"

    def stock(self, router: str = "r1") -> Stock:
        assert self.dialler is not None
        return next(line for line in self.dialler.lines if line.name == router).stock()

    async def stop(self, grace_s: float = 5.0) -> None:
        """Stop as an agent does: gracefully."""
        if self.dialler:
            dialler, self.dialler = self.dialler, None
            if self._running:
                self._running.cancel()
                await asyncio.gather(self._running, return_exceptions=True)
            await dialler.close(grace_s)
        await self._stack.aclose()

    async def kill(self) -> None:
        """Vanish as an agent does that is killed: the kernel closes its sockets."""
        assert self.dialler is not None
        for line in self.dialler.lines:
            for connection in list(line.all):
                connection.abort()
        if self._running:
            self._running.cancel()
        await self.stop(0.1)


class Router:
    """A router's data path with its pool of reversed connections."""

    def __init__(self, authority: Authority, *, name: str = "r1") -> None:
        self.name = name
        self.credentials: Credentials = credentials_for(authority, PeerRole.ROUTER, name)
        self.state = RouterState(
            name=name, clock=SystemClock(), dice=random.Random(1), allow_anonymous=True
        )
        self.pool: ReversePool | None = None
        self.grpc: GrpcService | None = None
        self.address = RouterAddress(name=name, reverse_address="")
        self.url = ""
        self.session: aiohttp.ClientSession | None = None
        self._stack = AsyncExitStack()

    async def start(self, *, host: str = "127.0.0.1") -> None:
        """Start; a second time at the same address for agents."""
        self.pool = ReversePool(self.credentials, clock=SystemClock())
        wanted = self.address.reverse_address or f"{host}:0"
        bound = await self.pool.listen(wanted)
        self._stack.push_async_callback(self.pool.close)
        self.address = RouterAddress(name=self.name, reverse_address=f"{bound[0]}:{bound[1]}")
        upstreams = Upstreams(credentials=self.credentials, reverse=self.pool, clock=SystemClock())
        self._stack.push_async_callback(upstreams.close)
        self.state.on_swap.append(lambda table: upstreams.follow(table.endpoints))
        locator = Locator()
        self._stack.callback(locator.close)
        proxy = Proxy(
            state=self.state,
            upstreams=upstreams,
            metrics=Metrics(self.state),
            locator=locator,
            admission=Admission(1000),
            limits=ProxyLimits(body=BodyLimits(max_bytes=80 << 20)),
        )
        self.grpc = GrpcService(proxy.shared())
        self._stack.push_async_callback(self.grpc.switch.close)
        application = proxy.application()
        application.on_h2 = self.grpc.switch.takeover
        runner = make_runner(application, ServerLimits(shutdown_s=0.2))
        self._stack.push_async_callback(runner.cleanup)
        bound = await listen(runner, "127.0.0.1:0")
        self.url = f"http://{bound[0]}:{bound[1]}"
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._stack.push_async_callback(self.session.close)

    def route_to(self, *sites: Site, version: int = 1) -> None:
        snapshot = Snapshot(
            version=version,
            models=tuple(
                ModelRoute(name=name, default_version=1, protocol=protocol)
                for name, protocol in MODELS.items()
            ),
            endpoints=tuple(
                Endpoint(
                    cluster=site.name,
                    region="eu",
                    url=site.url,
                    connectivity=Connectivity.DIAL if site.url else Connectivity.REVERSE,
                )
                for site in sites
            ),
            replicas=tuple(
                Replica(model=model, version=1, cluster=site.name)
                for site in sites
                for model in MODELS
            ),
        )
        self.state.swap(tables.build(snapshot, tables.Reach(secure=True, reverse=True)))

    def counts(self, cluster: str = CLUSTER) -> Counts:
        assert self.pool is not None
        return self.pool.counts().get(cluster, Counts(0, 0, 0))

    async def stop(self) -> None:
        await self._stack.aclose()
        self._stack = AsyncExitStack()
        self.state.on_swap.clear()

    async def post(
        self, path: str, body: bytes | dict[str, Any], **headers: str
    ) -> tuple[int, bytes]:
        assert self.session is not None
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        named = {"Content-Type": "application/json"} | headers
        async with self.session.post(self.url + path, data=data, headers=named) as response:
            return response.status, await response.read()

    async def infer(self) -> int:
        return (await self.post(INFER, {"inputs": []}))[0]


@asynccontextmanager
async def joined(
    authority: Authority, *, stock: StockLimits | None = None, dialled: bool = False
) -> AsyncIterator[tuple[Site, Router]]:
    """A site and a router that serve, connected one way or the other."""
    site, router = Site(authority, stock=stock), Router(authority)
    await site.start_engine()
    await router.start()
    try:
        if dialled:
            await site.listen()
        else:
            await site.dial(router.address)
            await until(lambda: router.counts().idle >= (stock or StockLimits()).idle)
        router.route_to(site)
        yield site, router
    finally:
        await router.stop()
        await site.stop(0.5)
        await site.engine.stop()
