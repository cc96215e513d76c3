"""Gateways that misbehave on demand, and a whole router in this process in front of them."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import aiohttp
import grpc
import grpc.aio
from aiohttp import web

from federation.contract.access import Access
from federation.contract.spiffe import PeerRole
from federation.contract.types import (
    Endpoint,
    Location,
    ModelProtocol,
    ModelRoute,
    Replica,
    Snapshot,
)
from federation.contract.v1 import federation_pb2 as pb
from federation.identity.authority import Authority
from federation.relay.application import Application
from federation.relay.server import ServerLimits, listen, make_runner
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from router.geo import Locator
from router.metrics.requests import Metrics
from router.policy import table as tables
from router.policy.admission import Admission
from router.policy.signals import Signals
from router.probe import Prober, ProbeTimes
from router.request.call import ProxyLimits
from router.request.proxy import Proxy
from router.state import RouterState
from router.upstream.http import Upstreams
from tests.pki import credentials_for

Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROUTES = (
    ModelRoute(name="digits", default_version=2, aliases={"champion": 1}),
    ModelRoute(name="poet", default_version=1, protocol=ModelProtocol.TEXT),
    ModelRoute(name="private", default_version=1, residency=("eu",)),
)


def make_snapshot(
    urls: dict[str, str],
    *,
    version: int = 1,
    routes: Iterable[ModelRoute] = ROUTES,
    absent: Iterable[str] = (),
) -> Snapshot:
    """Every cluster has every model, versions 1 and 2; the region is what precedes the dash."""
    routes = tuple(routes)
    return Snapshot(
        version=version,
        models=routes,
        endpoints=tuple(
            Endpoint(
                cluster=name,
                region=name.split("-")[0],
                url=url,
                location=Location(latitude=10.0 * i, longitude=20.0 * i),
                present=name not in absent,
            )
            for i, (name, url) in enumerate(urls.items())
        ),
        replicas=tuple(
            Replica(model=route.name, version=number, cluster=name)
            for name in urls
            for route in routes
            for number in (1, 2)
        ),
    )


class FakeGateway:
    """One cluster's gateway: answers the verbs, or does what `fault` says. With `credentials` it
    demands the certificate of a router, and nothing else that a real gateway checks."""

    def __init__(self, name: str, credentials: Credentials | None = None) -> None:
        self.name = name
        self.credentials = credentials
        self.url = ""
        self.fault: Fault | None = None
        self.ready = True
        self.silent = False
        self.health_delay_s = 0.0
        self.live_checks = 0
        self.delay_s = 0.0
        self.bodies: list[bytes] = []
        self.heads: list[tuple[str, dict[str, str]]] = []
        self.cancelled = asyncio.Event()
        self.more = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def inferences(self) -> int:
        return len(self.heads)

    @property
    def connections(self) -> int:
        server = self._runner.server if self._runner else None
        return len(server.connections) if server else 0

    async def start(self) -> None:
        address = self.url.partition("://")[2] or "127.0.0.1:0"
        limits = ServerLimits(shutdown_s=0.1)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = make_runner(app, limits)
        context = self.credentials.server_context() if self.credentials else None
        host, port = await listen(self._runner, address, context)
        self.url = f"{'https' if context else 'http'}://{host}:{port}"

    async def kill(self) -> None:
        """Stop answering, as a process that was killed."""
        if self._runner:
            runner, self._runner = self._runner, None
            for connection in list(runner.server.connections if runner.server else ()):
                if connection.transport:
                    connection.transport.abort()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.silent:
            self.heads += [] if "health" in request.path else [(request.raw_path, {})]
            return await hang(request)
        if request.path == "/v2/health/live":
            self.live_checks += 1
            await asyncio.sleep(self.health_delay_s)
            return web.json_response({"live": True})
        if request.path == "/v2/health/ready":
            await asyncio.sleep(self.health_delay_s)
            return web.json_response({"ready": self.ready}, status=200 if self.ready else 503)
        self.heads.append((request.raw_path, {k.lower(): v for k, v in request.headers.items()}))
        try:
            self.bodies.append(await request.read())
            if self.fault:
                return await self.fault(request)
            await asyncio.sleep(self.delay_s)
            return await self._answer(request)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        headers = {"x-fed-load": "1"}
        if request.path.startswith("/v1/") and json.loads(self.bodies[-1]).get("stream"):
            return await self._stream(request)
        if request.path.startswith("/v1/"):
            return web.json_response(
                _completion(request.path, f"from {self.name}"), headers=headers
            )
        if request.method == "GET":
            document = {"name": "m", "versions": ["1"], "inputs": [], "outputs": []}
            return web.json_response(document, headers=headers)
        return web.json_response({"by": self.name, "outputs": []}, headers=headers)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_event(_completion(request.path, "first")))
        await self.more.wait()
        await response.write(_event(_completion(request.path, "second")) + b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def _event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _completion(path: str, text: str) -> dict[str, object]:
    base = {"id": "1", "created": 1, "model": "poet"}
    if "chat" in path:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "delta": message, "finish_reason": "stop"}
        return base | {"object": "chat.completion", "choices": [choice]}
    choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
    return base | {"object": "text_completion", "choices": [choice]}


def forget_failures(signals: Signals) -> None:
    """Let everybody in again, as if nothing had ever failed."""
    for place in signals._places.values():
        for breaker in (place.breaker, *(lane.breaker for lane in place.lanes.values())):
            breaker.__init__()  # type: ignore[misc]
        for lane in place.lanes.values():
            lane.held_until_s, lane.errors, lane.away = 0.0, 0.0, False
    signals.stamp += 1


async def refuse(request: web.Request, reason: str = "engine-down") -> web.StreamResponse:
    """The gateway refuses: nothing was executed."""
    return web.json_response(
        {"error": "no"}, status=503, headers={"x-fed-refused": reason, "x-fed-load": "0"}
    )


async def reset(request: web.Request) -> web.StreamResponse:
    """The connection breaks before an answer."""
    if request.transport:
        request.transport.abort()
    return web.Response()


async def hang(request: web.Request) -> web.StreamResponse:
    """No answer, ever."""
    await asyncio.sleep(3600)
    return web.Response()


class RouterUnderTest:
    """A router's data path, without processes."""

    def __init__(self, state: RouterState, upstreams: Upstreams, proxy: Proxy, url: str) -> None:
        self.state = state
        self.proxy = proxy
        self.metrics = proxy._metrics
        self.upstreams = upstreams
        self.url = url
        self.session = aiohttp.ClientSession()
        self.application: Application

    async def infer(
        self, model: str = "digits", *, body: bytes = b"{}", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        return await self.ask("POST", f"/v2/models/{model}/infer", body=body, headers=headers)

    async def ask(
        self, method: str, path: str, *, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        async with self.session.request(
            method, self.url + path, data=body or None, headers=headers
        ) as response:
            found = {k.lower(): v for k, v in response.headers.items()}
            return response.status, found, await response.read()


@asynccontextmanager
async def gateways(
    *names: str, authority: Authority | None = None
) -> AsyncIterator[dict[str, FakeGateway]]:
    """Run fake gateways, over mutual TLS if an authority is given."""
    fakes = {
        name: FakeGateway(
            name, credentials_for(authority, PeerRole.CLUSTER, name) if authority else None
        )
        for name in names
    }
    try:
        for fake in fakes.values():
            await fake.start()
        yield fakes
    finally:
        for fake in fakes.values():
            await fake.kill()


@asynccontextmanager
async def router_for(
    urls: dict[str, str],
    *,
    limits: ProxyLimits | None = None,
    times: ProbeTimes | None = None,
    admission: int = 1000,
    credentials: Credentials | None = None,
    access: Access | None = None,
    trusted_proxies: tuple[str, ...] = (),
) -> AsyncIterator[RouterUnderTest]:
    """Run a router's data path in front of some gateways; probes only if `times` are given, serves
    everyone unless there is an `access`."""
    clock = SystemClock()
    state = RouterState(
        name="test",
        clock=clock,
        dice=random.Random(1),
        credentials=credentials,
        reach=tables.Reach(secure=credentials is not None),
        allow_anonymous=access is None,
    )
    async with AsyncExitStack() as stack:
        locator = Locator(trusted_proxies=trusted_proxies)
        stack.callback(locator.close)
        upstreams = Upstreams(credentials=credentials, clock=clock)
        state.on_swap.append(lambda table: upstreams.follow(table.endpoints))
        stack.push_async_callback(upstreams.close)
        proxy = Proxy(
            state=state,
            upstreams=upstreams,
            metrics=Metrics(state),
            locator=locator,
            admission=Admission(admission),
            limits=limits,
        )
        application = proxy.application()
        runner = make_runner(application, ServerLimits(shutdown_s=0.2))
        stack.push_async_callback(runner.cleanup)
        host, port = await listen(runner, "127.0.0.1:0")
        snapshot = replace(make_snapshot(urls), access=access or Access())
        state.swap(tables.build(snapshot, state.reach))
        if times:
            probing = asyncio.get_running_loop().create_task(
                Prober(state=state, upstreams=upstreams, times=times).run()
            )
            stack.push_async_callback(_stop, probing)
        router = RouterUnderTest(state, upstreams, proxy, f"http://{host}:{port}")
        router.application = application
        stack.push_async_callback(router.session.close)
        yield router


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def eventually(check: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait until `check()` holds."""
    async with asyncio.timeout(within_s):
        while not check():
            await asyncio.sleep(0.01)


async def hiding_stream(read: asyncio.Event) -> AsyncIterator[pb.RouterInstructionParts]:
    """End as grpc.aio's streams do when their end and the reader's cancelling come together."""
    read.set()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing) from None
    yield pb.RouterInstructionParts()
