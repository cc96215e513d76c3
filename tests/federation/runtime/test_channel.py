"""Server and channel reach each other; an error keeps its reason; a taken port is refused."""

import grpc
import grpc.aio
import pytest

from federation.contract.errors import NotFound
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.runtime.channel import abort_with, connect, serve


class Refusing(rpc.AgentServiceServicer):
    async def Connect(self, request_iterator: object, context: object) -> None:  # type: ignore[override]  # async form
        await abort_with(context, NotFound("no cluster.", hint="Register it."))  # type: ignore[arg-type]


async def test_a_refusal_arrives_with_status_sentence_and_reason() -> None:
    server = serve()
    rpc.add_AgentServiceServicer_to_server(Refusing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with connect(f"127.0.0.1:{port}") as channel:
            call = rpc.AgentServiceStub(channel).Connect(iter([pb.AgentMessage()]))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert caught.value.details() == "no cluster. Register it."
            trailers = caught.value.trailing_metadata()
            assert ("fed-reason", "not-found") in [tuple(pair) for pair in trailers or ()]
    finally:
        await server.stop(None)


async def test_a_taken_port_is_refused() -> None:
    first, second = serve(), serve()
    port = first.add_insecure_port("127.0.0.1:0")
    with pytest.raises(RuntimeError):
        second.add_insecure_port(f"127.0.0.1:{port}")
    await first.stop(None)
    await second.stop(None)
