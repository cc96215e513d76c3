"""Another implementation of HTTP/2 at both ends: it must find nothing wrong with what we write."""

import asyncio
import contextlib
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, TrailersReceived

from federation.relay.h2.switch import Switch
from tests.federation.relay.h2.rig import FakeService, PlainDialler, message

HEAD = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/inference.GRPCInferenceService/ModelInfer"),
    (":authority", "a"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


class Server(asyncio.Protocol):
    """Sends back what it gets, with trailers. It indexes headers where it may."""

    def __init__(self) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False))
        self.bodies: dict[int, bytes] = {}
        self.left: dict[int, bytes] = {}

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.h2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                head = [(":status", "200"), ("content-type", "application/grpc")]
                self.h2.send_headers(event.stream_id, head)
                self.left[event.stream_id] = self.bodies.pop(event.stream_id)
        self.pump()
        self.flush()

    def pump(self) -> None:
        for stream, left in list(self.left.items()):
            while left:
                room = self.h2.local_flow_control_window(stream)
                size = min(room, self.h2.max_outbound_frame_size, len(left))
                if size <= 0:
                    break
                self.h2.send_data(stream, left[:size])
                left = left[size:]
            self.left[stream] = left
            if not left:
                del self.left[stream]
                trailers = [("grpc-status", "0"), ("x-own", "y" * 100)]
                self.h2.send_headers(stream, trailers, end_stream=True)

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())


def push(client: H2Connection, left: dict[int, bytes]) -> None:
    """Send what the windows allow."""
    for stream in list(left):
        while stream in left:
            rest = left[stream]
            room = client.local_flow_control_window(stream)
            size = min(room, client.max_outbound_frame_size, len(rest))
            if size <= 0:
                break
            client.send_data(stream, rest[:size], end_stream=size == len(rest))
            left[stream] = rest[size:]
            if size == len(rest):
                del left[stream]


async def calls(port: int, bodies: list[bytes]) -> dict[int, tuple[bytes, dict[bytes, bytes]]]:
    """Make calls on one connection, obeying all windows; return bodies and trailers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = H2Connection(H2Configuration(header_encoding=None))
    client.initiate_connection()
    left = {}
    for i, body in enumerate(bodies):
        stream = 2 * i + 1
        client.send_headers(stream, [*HEAD, ("x-a", "same")])
        left[stream] = body
    got: dict[int, bytes] = dict.fromkeys(left, b"")
    ends: dict[int, dict[bytes, bytes]] = {}
    while len(ends) < len(bodies):
        push(client, left)
        writer.write(client.data_to_send())
        data = await asyncio.wait_for(reader.read(65_536), 10)
        assert data, "the switch closed the connection"
        for event in client.receive_data(data):
            if isinstance(event, DataReceived):
                got[event.stream_id] += event.data
                client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, ResponseReceived):
                assert dict(event.headers)[b":status"] == b"200"
            elif isinstance(event, TrailersReceived):
                ends[event.stream_id] = dict(event.headers)
    writer.write(client.data_to_send())
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return {stream: (got[stream], ends[stream]) for stream in got}


@pytest.mark.parametrize("sizes", [[10], [0, 1, 5000, 70_000] * 5, [3 << 20, 10, 1 << 20]])
async def test_calls_between_two_others(sizes: list[int]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    service = FakeService()
    switch = Switch(service, now=loop.time)
    port = server.sockets[0].getsockname()[1]
    service.backends.append(switch.backend("one", PlainDialler(port)))
    front = await loop.create_server(switch.takeover, "127.0.0.1", 0)
    try:
        bodies = [message(size=size) for size in sizes]
        for _ in range(2):  # the second time the far ends know what they indexed
            found = await calls(front.sockets[0].getsockname()[1], bodies)
            for i, body in enumerate(bodies):
                got, trailers = found[2 * i + 1]
                assert got == body
                assert trailers == {b"grpc-status": b"0", b"x-own": b"y" * 100}
    finally:
        front.close()
        server.close()
        await switch.close()
        await front.wait_closed()
        await server.wait_closed()
