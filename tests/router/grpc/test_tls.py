"""gRPC on the port that serves HTTP, over TLS: each client gets the protocol that it can speak."""

import ssl
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
from tritonclient.grpc import service_pb2_grpc as rpc

from federation.contract.spiffe import PeerRole
from federation.relay.application import make_application
from federation.relay.http1.messages import Request, Response
from federation.relay.server import listen, make_runner
from router.public_tls import PublicTls
from tests.pki import credentials_for, make_authority, trust_of
from tests.router.grpc.world import request, world


async def test_grpc_and_http_share_a_tls_port(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    leaf = credentials_for(authority, PeerRole.ROUTER, "r1").leaf
    assert leaf is not None
    (tmp_path / "c.pem").write_text(leaf.certificate)
    (tmp_path / "k.pem").write_text(leaf.key)
    tls = PublicTls(tmp_path / "c.pem", tmp_path / "k.pem")
    roots = trust_of(authority).bundle

    async def answer(_: Request) -> Response:
        return Response(body=b"ok", content_type="text/plain")

    async with world("eu-1") as w:
        application = make_application(answer)
        application.on_h2 = w.service.switch.takeover
        runner = make_runner(application)
        try:
            _, port = await listen(runner, "127.0.0.1:0", tls.context)
            channel = grpc.aio.secure_channel(
                f"localhost:{port}", grpc.ssl_channel_credentials(roots.encode())
            )
            found = await rpc.GRPCInferenceServiceStub(channel).ModelInfer(request(size=200_000))
            assert (found.model_name, len(found.raw_output_contents[0])) == ("digits", 200_000)
            context = ssl.create_default_context(cadata=roots)
            context.set_alpn_protocols(["h2", "http/1.1"])  # as browsers and curl offer them
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"https://localhost:{port}/v2", ssl=context) as response,
            ):
                assert await response.read() == b"ok"
            await channel.close()
        finally:
            await runner.cleanup()
