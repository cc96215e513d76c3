"""Both ends of the benchmark, in raw frames: a backend that answers 300 bytes, a closed-loop load.

python -m benchmarks.grpc.wiring backend PORT
python -m benchmarks.grpc.wiring load PORT CONNECTIONS STREAMS SECONDS [varied]
python -m benchmarks.grpc.wiring router PORT BACKEND-PORT
python -m benchmarks.grpc.wiring gateway PORT BACKEND-PORT
python -m benchmarks.grpc.wiring aio PORT BACKEND-PORT
"""

import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import Iterator

import uvloop

from federation.relay.h2 import wire
from federation.relay.h2.blocks import literal
from federation.relay.h2.heads import ANSWER
from federation.relay.h2.message import enveloped, name_fields, text_field

PATH = b"/inference.GRPCInferenceService/ModelInfer"
MESSAGE = enveloped(name_fields("digits", "") + text_field(7, bytes(1000)))
REPLY = enveloped(name_fields("digits", "1") + text_field(6, bytes(284)))
OK = literal(b"grpc-status", b"0")
BIG = ((4, 1 << 24),)


def frames(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Kind, flags, stream, size and end of each whole frame."""
    at = 0
    while len(data) - at >= 9:
        head, flags, stream = wire.read_head(data, at)
        size = head >> 8
        if len(data) - at - 9 < size:
            return
        at += 9 + size
        yield head & 255, flags, stream, size, at


class Backend(asyncio.Protocol):
    """Never decodes a header: it answers whatever ends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert hasattr(transport, "write")
        self.transport, self.held, self.preface, self.seen = transport, b"", 24, 0
        transport.write(wire.settings(((3, 1000), *BIG)) + wire.window_update(0, 1 << 30))

    def data_received(self, data: bytes) -> None:
        if self.preface:
            cut = min(self.preface, len(data))
            self.preface -= cut
            data = data[cut:]
        data, at, out = self.held + data, 0, []
        for kind, flags, stream, size, end in frames(data):
            at = end
            if kind == wire.DATA:
                self.seen += size
            if kind == wire.SETTINGS and not flags & 1:
                out.append(wire.frame(wire.SETTINGS, 1, 0))
            elif kind == wire.PING and not flags & 1:
                out.append(wire.frame(wire.PING, 1, 0, data[at - 8 : at]))
            elif kind in (wire.DATA, wire.HEADERS) and flags & wire.END_STREAM:
                out += (
                    wire.frame(wire.HEADERS, 4, stream, ANSWER),
                    wire.frame(wire.DATA, 0, stream, REPLY),
                    wire.frame(wire.HEADERS, 5, stream, OK),
                )
        if self.seen > 1 << 20:
            out.append(wire.window_update(0, self.seen))
            self.seen = 0
        self.held = data[at:]
        if out:
            self.transport.write(b"".join(out))


class Load(asyncio.Protocol):
    """One connection that keeps a number of calls under way."""

    def __init__(self, streams: int, varied: bool) -> None:
        self.streams, self.varied = streams, varied
        self.next, self.done, self.errors, self.held, self.seen = 1, 0, 0, b"", 0
        self.greeted = False
        self.since: dict[int, float] = {}
        self.times: list[float] = []
        self.sizes: dict[int, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(wire.PREFACE + wire.settings(BIG) + wire.window_update(0, 1 << 30))

    def begin(self) -> bytes:
        stream, self.next = self.next, self.next + 2
        fields = [
            *((b":method", b"POST"), (b":scheme", b"http"), (b":path", PATH)),
            *((b":authority", b"127.0.0.1:1"), (b"te", b"trailers")),
            (b"content-type", b"application/grpc"),
            (b"user-agent", b"grpc-python-asyncio/1.85.1 grpc-c/53.0.0 (linux; chttp2)"),
            (b"grpc-accept-encoding", b"identity, deflate, gzip"),
        ]
        if self.varied:
            fields.append((b"traceparent", b"00-%032x-%016x-01" % (random.getrandbits(127), 1)))
        block = b"".join(literal(*field) for field in fields)
        self.since[stream] = time.perf_counter()
        return wire.frame(wire.HEADERS, 4, stream, block) + wire.frame(0, 1, stream, MESSAGE)

    def ended(self, stream: int) -> bytes:
        """Count a call that ended, and begin the next one."""
        self.done += 1
        self.errors += not len(REPLY) <= self.sizes.pop(stream, 0) <= len(REPLY) + 40
        self.times.append(time.perf_counter() - self.since.pop(stream))
        return self.begin()

    def data_received(self, data: bytes) -> None:
        data, at, out = self.held + data, 0, []
        for kind, flags, stream, size, end in frames(data):
            at = end
            if kind == wire.SETTINGS and not flags & 1:
                out.append(wire.frame(wire.SETTINGS, 1, 0))
                if not self.greeted:
                    self.greeted = True
                    out += [self.begin() for _ in range(self.streams)]
            elif kind == wire.PING and not flags & 1:
                out.append(wire.frame(wire.PING, 1, 0, data[at - 8 : at]))
            elif kind == wire.DATA:
                self.seen += size
                self.sizes[stream] = self.sizes.get(stream, 0) + size
            elif kind == wire.GOAWAY:
                self.errors += 1
            over = (flags & 1 and kind in (wire.DATA, wire.HEADERS)) or kind == wire.RST_STREAM
            if over and stream in self.since:
                out.append(self.ended(stream))
        if self.seen > 1 << 20:
            out.append(wire.window_update(0, self.seen))
            self.seen = 0
        self.held = data[at:]
        if out:
            self.transport.write(b"".join(out))


async def load(port: int, connections: int, streams: int, seconds: float, varied: bool) -> None:
    loop = asyncio.get_running_loop()
    made = [Load(streams, varied) for _ in range(connections)]
    for one in made:
        await loop.create_connection(lambda one=one: one, "127.0.0.1", port)
    await asyncio.sleep(seconds)
    times = sorted(t for one in made for t in one.times)
    told = {
        "calls": sum(one.done for one in made),
        "errors": sum(one.errors for one in made),
        "p50_us": round(times[len(times) // 2] * 1e6) if times else 0,
    }
    print(json.dumps(told))


async def backend(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", port)
    await server.serve_forever()


async def router(port: int, behind: int) -> None:
    """The router's own gRPC path with everything on: key, quota, policy, metrics."""
    from federation.contract.types import Endpoint, ModelRoute, Replica, Snapshot
    from federation.relay.server import listen as listen_on
    from federation.relay.server import make_runner
    from federation.runtime.clock import SystemClock
    from router.geo import Locator
    from router.grpc.service import GrpcService
    from router.metrics.requests import Metrics
    from router.policy import table as tables
    from router.policy.admission import Admission
    from router.request.proxy import Proxy
    from router.state import RouterState
    from router.upstream.http import Upstreams

    state = RouterState(name="r", clock=SystemClock(), dice=random.Random(1), allow_anonymous=True)
    proxy = Proxy(
        state=state,
        upstreams=Upstreams(clock=state.clock),
        metrics=Metrics(state),
        locator=Locator(),
        admission=Admission(4096),
    )
    grpc = GrpcService(proxy.shared())
    snapshot = Snapshot(
        version=1,
        models=(ModelRoute(name="digits", default_version=1),),
        endpoints=tuple(
            Endpoint(cluster=f"c-{i}", region="c", url=f"http://127.0.0.1:{behind}")
            for i in range(2)
        ),
        replicas=tuple(Replica(model="digits", version=1, cluster=f"c-{i}") for i in range(2)),
    )
    state.swap(tables.build(snapshot, state.reach))
    application = proxy.application()
    application.on_h2 = grpc.switch.takeover
    runner = make_runner(application)
    await listen_on(runner, f"127.0.0.1:{port}")
    gc.freeze()
    await asyncio.Event().wait()


async def gateway(port: int, behind: int) -> None:
    """The gateway's gRPC path: counts, names appended in both directions; load sets the model."""
    from prometheus_client import CollectorRegistry

    from edge_agent.backends.base import GrpcRoute
    from edge_agent.gateway import grpc_call
    from edge_agent.gateway.desk import Desk
    from edge_agent.gateway.flights import Flights
    from edge_agent.gateway.grpc_service import GrpcService
    from edge_agent.gateway.metrics import GatewayMetrics
    from federation.contract.types import ModelProtocol
    from federation.runtime.clock import SystemClock

    class Speaker:
        def grpc_route(self, model: str, version: int, protocol: ModelProtocol) -> GrpcRoute:
            return GrpcRoute(address=f"127.0.0.1:{behind}", engine_model=f"{model}--v{version}")

    grpc_call._key = lambda _: ("digits", 1)
    flights = Flights()
    desk = Desk(
        admit=lambda verb, key: ModelProtocol.TENSOR,
        doubt=lambda *_: None,
        flights=flights,
        metrics=GatewayMetrics(CollectorRegistry(), flights),
    )
    made = GrpcService(Speaker(), desk, clock=SystemClock())
    server = await asyncio.get_running_loop().create_server(made.switch.takeover, "127.0.0.1", port)
    gc.freeze()
    await server.serve_forever()


async def aio(port: int, behind: int) -> None:
    """What one gets with grpc.aio on both sides, raw bytes."""
    import grpc
    import grpc.aio

    channel = grpc.aio.insecure_channel(f"127.0.0.1:{behind}")
    call = channel.unary_unary(PATH.decode())

    async def answer(request: bytes, context: object) -> bytes:
        return await call(request)

    class Any(grpc.GenericRpcHandler):
        def service(self, details: object) -> object:
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Any(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    what, *rest = sys.argv[1:]
    numbers = [int(x) for x in rest if x.isdigit()]
    roles = {"backend": backend, "router": router, "gateway": gateway, "aio": aio}
    if what == "load":
        port, connections, streams, seconds = numbers
        uvloop.run(load(port, connections, streams, seconds, "varied" in rest))
    else:
        uvloop.run(roles[what](*numbers))


if __name__ == "__main__":
    main()
