"""gRPC over mutual TLS between router and gateway, dialled and reversed.

Not on uvloop: gRPC in the same process now and then keeps its loop from closing. The switch alone
runs there in tests/federation/relay/h2/test_switch.py.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Revocation
from tests.contract.reversed_rig import Router, Site, run, until
from tests.pki import TRUST_DOMAIN, issue_into, make_authority, trust_of

WAYS = ("dialled", "reversed")
STREAM = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]


class Engine(rpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers in threads of its own."""

    def __init__(self) -> None:
        self.seen: list[pb.ModelInferRequest] = []
        self._threads = ThreadPoolExecutor(16)
        self._server = grpc.server(self._threads, options=STREAM)
        rpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()
        self._threads.shutdown()

    def ModelInfer(self, request: Any, context: Any) -> Any:
        self.seen.append(request)
        answer = pb.ModelInferResponse(model_name=request.model_name, model_version="1")
        answer.raw_output_contents.extend(request.raw_input_contents)
        return answer

    def ModelStreamInfer(self, requests: Any, context: Any) -> Any:
        for request in requests:
            for _ in range(3):
                answer = self.ModelInfer(request, context)
                yield pb.ModelStreamInferResponse(infer_response=answer)


@asynccontextmanager
async def path(folder: Path, way: str) -> AsyncIterator[tuple[Router, Site, Engine, Any]]:
    """A router, a gateway and an engine; and a stub for the model, to be used in threads."""
    authority = make_authority(folder)
    router, site, engine = Router(authority), Site(authority), Engine()
    await router.start()
    await site.start_engine()
    site.grpc_address = f"127.0.0.1:{engine.port}"
    await (site.listen() if way == "dialled" else site.dial(router.address))
    router.route_to(site)
    if way == "reversed":
        await until(lambda: router.pool and router.counts(site.name).idle)
    channel = grpc.insecure_channel(router.url.removeprefix("http://"), options=STREAM)
    try:
        yield router, site, engine, rpc.GRPCInferenceServiceStub(channel)
    finally:
        await asyncio.to_thread(channel.close)
        await site.stop()
        await site.engine.stop()
        await router.stop()
        await asyncio.to_thread(engine.stop)


def request(size: int = 16) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="m")
    made.raw_input_contents.append(bytes(size))
    return made


def infer(stub: Any, count: int = 1, size: int = 16) -> list[Any]:
    """Make calls at once."""
    calls = [stub.ModelInfer.future(request(size), timeout=20) for _ in range(count)]
    return [call.result() for call in calls]


@pytest.mark.parametrize("way", WAYS)
def test_calls_and_streams(tmp_path: Path, way: str) -> None:
    async def scenario() -> None:
        async with path(tmp_path, way) as (router, _, engine, stub):
            answers = await asyncio.to_thread(infer, stub, 100)
            assert {(a.model_name, a.model_version) for a in answers} == {("m", "1")}
            assert {r.model_name for r in engine.seen} == {"m--v1"}
            (large,) = await asyncio.to_thread(infer, stub, 1, 3 << 20)
            assert large.raw_output_contents == [bytes(3 << 20)]

            def stream() -> list[str]:
                found = stub.ModelStreamInfer(iter([request()] * 4), timeout=20)
                return [answer.infer_response.model_name for answer in found]

            assert await asyncio.to_thread(stream) == ["m"] * 12
            if way == "reversed":
                assert router.pool is not None
                assert router.pool.counts()["eu-1"].lent == 1  # one connection carried them all

    run("asyncio", scenario())


@pytest.mark.parametrize("way", WAYS)
def test_http_and_grpc_share_the_port(tmp_path: Path, way: str) -> None:
    async def scenario() -> None:
        async with path(tmp_path, way) as (router, _, _, stub):
            assert router.session is not None
            assert (await asyncio.to_thread(infer, stub))[0].model_name == "m"
            body = b'{"inputs": []}'
            async with router.session.post(f"{router.url}/v2/models/m/infer", data=body) as answer:
                assert answer.status == 200
            assert (await asyncio.to_thread(infer, stub))[0].model_name == "m"

    run("asyncio", scenario())


@pytest.mark.parametrize("way", WAYS)
def test_new_certificates_cost_no_call(tmp_path: Path, way: str) -> None:
    async def scenario() -> None:
        async with path(tmp_path, way) as (router, site, _, stub):
            authority = make_authority(tmp_path)
            failed: list[str] = []

            async def load() -> None:
                while not done.is_set():
                    try:
                        await asyncio.to_thread(infer, stub)
                    except grpc.RpcError as error:
                        failed.append(str(error))

            done = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(load())
                for _ in range(3):
                    await asyncio.sleep(0.2)
                    for credentials, role, name in (
                        (site.credentials, PeerRole.CLUSTER, site.name),
                        (router.credentials, PeerRole.ROUTER, router.name),
                    ):
                        issue_into(credentials, authority, PeerId(TRUST_DOMAIN, role, name))
                await asyncio.sleep(0.2)
                done.set()
            assert failed == []

    run("asyncio", scenario())


def test_a_revoked_router_gets_nothing_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with path(tmp_path, "dialled") as (router, site, engine, stub):
            assert (await asyncio.to_thread(infer, stub))[0].model_name == "m"
            authority = make_authority(tmp_path)
            uri = PeerId(TRUST_DOMAIN, PeerRole.ROUTER, router.name).uri
            gone = (Revocation(uri=uri, below=9),)
            site.credentials.keep_trust(trust_of(authority, 99, revoked=gone))
            seen = len(engine.seen)
            with pytest.raises(grpc.RpcError):
                await asyncio.to_thread(infer, stub)
            assert len(engine.seen) == seen

    run("asyncio", scenario())
