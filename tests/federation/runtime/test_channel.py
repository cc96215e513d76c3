"""Server and channel reach each other; an error keeps its reason; each end proves who it is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from federation.contract.errors import NotFound
from federation.contract.spiffe import PeerRole, control_plane_dns_name
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.identity.authority import Authority
from federation.runtime.channel import (
    abort_with,
    add_port,
    connect,
    heed_cancellation,
    serve,
)
from federation.trust.peers import peer_from_grpc
from tests.pki import credentials_for, make_authority


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


class Naming(rpc.AgentServiceServicer):
    """Answers with the identity that it sees."""

    async def Connect(self, request_iterator: object, context: object) -> None:  # type: ignore[override]  # async form
        peer = peer_from_grpc(context.auth_context())  # type: ignore[attr-defined]
        await abort_with(context, NotFound(f"seen {peer.id}."))  # type: ignore[arg-type]


@pytest.fixture
async def naming(tmp_path: Path) -> AsyncIterator[tuple[Authority, str]]:
    authority = make_authority(tmp_path)
    credentials = credentials_for(authority, PeerRole.CONTROL_PLANE, "main")
    server = serve()
    rpc.add_AgentServiceServicer_to_server(Naming(), server)
    port = add_port(server, "127.0.0.1:0", credentials.server_credentials())
    await server.start()
    yield authority, f"127.0.0.1:{port}"
    await server.stop(None)


async def answer_of(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError:
    async with channel:
        call = rpc.AgentServiceStub(channel).Connect(iter([pb.AgentMessage()]), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        return caught.value


async def test_both_ends_of_a_secure_channel_prove_who_they_are(
    naming: tuple[Authority, str],
) -> None:
    authority, address = naming
    agent = credentials_for(authority, PeerRole.CLUSTER, "eu").channel_credentials()
    error = await answer_of(connect(address, agent, control_plane_dns_name("fed.test")))
    assert error.details() == "seen spiffe://fed.test/cluster/eu."


async def test_a_server_that_is_somebody_else_is_not_spoken_to(
    naming: tuple[Authority, str],
) -> None:
    authority, address = naming
    agent = credentials_for(authority, PeerRole.CLUSTER, "eu").channel_credentials()
    error = await answer_of(connect(address, agent, "eu.router.fed.test"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_of_another_authority_is_not_let_in(
    naming: tuple[Authority, str], tmp_path: Path
) -> None:
    _, address = naming
    other = make_authority(tmp_path / "other")
    agent = credentials_for(other, PeerRole.CLUSTER, "eu").channel_credentials()
    error = await answer_of(connect(address, agent, control_plane_dns_name("fed.test")))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_cancellation_that_something_hid_is_heeded() -> None:
    async def hides() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        heed_cancellation()

    heed_cancellation()  # nobody cancelled this one
    task = asyncio.get_running_loop().create_task(hides())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=10)
    assert task.cancelled()
