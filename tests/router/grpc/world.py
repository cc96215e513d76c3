"""Engines that speak V2 gRPC, gateways before them and a router before these, in this process."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import grpc.aio
from prometheus_client import CollectorRegistry
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from edge_agent.backends.base import GrpcRoute, Verb, engine_name
from edge_agent.gateway.desk import Desk
from edge_agent.gateway.flights import Flights, Key
from edge_agent.gateway.grpc_service import GrpcService as GatewayGrpc
from edge_agent.gateway.metrics import GatewayMetrics
from federation.contract.access import Access
from federation.contract.types import ModelProtocol
from federation.relay.h2.service import SwitchLimits
from federation.runtime.clock import SystemClock
from router.geo import Locator
from router.grpc.service import GrpcService
from router.metrics.requests import Metrics
from router.policy import table as tables
from router.policy.admission import Admission
from router.policy.quota import Quotas
from router.request.call import ProxyLimits
from router.request.holding import Holding
from router.request.shared import Shared
from router.state import RouterState
from router.upstream.http import Upstreams
from tests.router.fakes import make_snapshot

INFER = "/inference.GRPCInferenceService/ModelInfer"


class FakeEngine(rpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers like Triton: it names itself as it was asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[pb.ModelInferRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.error: tuple[grpc.StatusCode, str] | None = None
        self.delay_s = 0.0
        self.port = 0
        self.cancelled = asyncio.Event()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ]
        )
        rpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server:
            await self._server.stop(None)
            self._server = None

    async def _work(self, request: Any, context: Any) -> None:
        self.seen.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.error:
            await context.abort(*self.error)
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def _answer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        answer = pb.ModelInferResponse(
            model_name=request.model_name, model_version="1", id=request.id
        )
        answer.parameters["by"].string_param = self.name
        for tensor in request.inputs:
            output = answer.outputs.add()
            output.name, output.datatype = tensor.name, tensor.datatype
            output.shape.extend(tensor.shape)
        answer.raw_output_contents.extend(request.raw_input_contents)
        return answer

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        await self._work(request, context)
        return self._answer(request)

    async def ModelStreamInfer(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            await self._work(request, context)
            for i in range(3):
                answer = self._answer(request)
                answer.parameters["number"].int64_param = i
                yield pb.ModelStreamInferResponse(infer_response=answer)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        await self._work(request, context)
        return pb.ModelMetadataResponse(name=request.name, versions=["1"], platform="fake")

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        await self._work(request, context)
        return pb.RepositoryModelLoadResponse()


class FakeSpeaker:
    """What of a backend gRPC asks for."""

    def __init__(self, address: str) -> None:
        self.address = address

    def grpc_route(self, model: str, version: int, protocol: ModelProtocol) -> GrpcRoute | None:
        if not self.address:
            return None
        return GrpcRoute(address=self.address, engine_model=engine_name(model, version))


@dataclass
class Cluster:
    """One gateway and its engine."""

    name: str
    engine: FakeEngine
    speaker: FakeSpeaker
    gateway: GatewayGrpc
    flights: Flights
    doubts: list[str] = field(default_factory=list)
    refuses: list[Exception] = field(default_factory=list)
    url: str = ""
    server: asyncio.Server | None = None


@dataclass
class World:
    """A router and its clusters."""

    state: RouterState
    service: GrpcService
    quotas: Quotas
    admission: Admission
    clusters: dict[str, Cluster]
    address: str
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    def stub(self) -> Any:
        channel = grpc.aio.insecure_channel(
            self.address,
            options=[
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        self.channels.append(channel)
        return rpc.GRPCInferenceServiceStub(channel)

    def seen(self) -> list[pb.ModelInferRequest]:
        return [request for c in self.clusters.values() for request in c.engine.seen]

    @property
    def quiet(self) -> bool:
        gateways = [
            c.gateway.switch.streams + len(c.flights.counts()) for c in self.clusters.values()
        ]
        own = [self.state.signals.in_flight(name) for name in self.clusters]
        mine = self.service.switch.streams + self.admission.in_flight + self.admission.kept_bytes
        return not any((*gateways, *own, mine))


def request(name: str = "digits", version: str = "", size: int = 8) -> pb.ModelInferRequest:
    """A request with one tensor."""
    made = pb.ModelInferRequest(model_name=name, model_version=version, id="7")
    tensor = made.inputs.add()
    tensor.name, tensor.datatype = "x", "UINT8"
    tensor.shape.extend([size])
    made.raw_input_contents.append(bytes(size))
    return made


@contextlib.asynccontextmanager
async def cluster(name: str, *, speaks: bool = True, address: str = "") -> AsyncIterator[Cluster]:
    """Run a gateway before a fake engine, or before the engine at an address."""
    loop, clock = asyncio.get_running_loop(), SystemClock()
    engine, flights = FakeEngine(name), Flights()
    if not address:
        await engine.start()
    speaker = FakeSpeaker((address or f"127.0.0.1:{engine.port}") if speaks else "")
    doubts: list[str] = []
    refuses: list[Exception] = []

    def admit(verb: Verb, key: Key) -> ModelProtocol:
        if refuses:
            raise refuses[0]
        return ModelProtocol.TENSOR

    desk = Desk(
        admit=admit,
        doubt=lambda model, version, why: doubts.append(why),
        flights=flights,
        metrics=GatewayMetrics(CollectorRegistry(), flights),
    )
    gateway = GatewayGrpc(speaker, desk, clock=clock)  # type: ignore[arg-type]
    server = await loop.create_server(gateway.switch.takeover, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield Cluster(name, engine, speaker, gateway, flights, doubts, refuses, url, server)
    finally:
        server.close()
        await gateway.switch.close()
        await engine.stop()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def world(
    *names: str,
    access: Access | None = None,
    limits: ProxyLimits | None = None,
    speaks: Iterable[str] | None = None,
    addresses: dict[str, str] | None = None,
    switch: SwitchLimits | None = None,
    admission: int = 1000,
) -> AsyncIterator[World]:
    """Run a router in front of clusters; they speak gRPC unless `speaks` names those that do."""
    loop, clock = asyncio.get_running_loop(), SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        clusters = {}
        for name in names:
            made = cluster(
                name,
                speaks=speaks is None or name in speaks,
                address=(addresses or {}).get(name, ""),
            )
            clusters[name] = await stack.enter_async_context(made)
        state = RouterState(
            name="test",
            clock=clock,
            dice=random.Random(1),
            allow_anonymous=access is None,
        )
        upstreams = Upstreams(clock=clock)
        stack.push_async_callback(upstreams.close)
        locator = Locator()
        stack.callback(locator.close)
        quotas, places, limits = Quotas(), Admission(admission), limits or ProxyLimits()
        metrics = Metrics(state)
        shared = Shared(
            state=state,
            upstreams=upstreams,
            metrics=metrics,
            locator=locator,
            admission=places,
            quotas=quotas,
            holding=Holding(state=state, metrics=metrics, limits=limits.holding),
            limits=limits,
        )
        service = GrpcService(shared, limits=switch)
        stack.push_async_callback(service.switch.close)
        server = await loop.create_server(service.switch.takeover, "127.0.0.1", 0)
        stack.push_async_callback(server.wait_closed)
        stack.callback(server.close)
        snapshot = replace(
            make_snapshot({name: c.url for name, c in clusters.items()}), access=access or Access()
        )
        state.swap(tables.build(snapshot, state.reach))
        port = server.sockets[0].getsockname()[1]
        made_world = World(state, service, quotas, places, clusters, f"127.0.0.1:{port}")
        try:
            yield made_world
        finally:
            for channel in made_world.channels:
                await channel.close()


async def eventually(check: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait until `check()` holds."""
    async with asyncio.timeout(within_s):
        while not check():
            await asyncio.sleep(0.01)
