import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from federation.contract.spiffe import PeerRole
from federation.relay.reversal import ALPN, WAITING_HEADER, agreed, keep_open, waiting
from tests.pki import credentials_for, make_authority


@pytest.mark.parametrize(
    ("told", "understood"),
    [("", 0), ("0", 0), ("17", 17), ("-1", 0), ("٣", 0), ("x", 0), ("9" * 20, 10_000)],
)
def test_how_many_wait_is_a_number_within_reason(told: str, understood: int) -> None:
    assert waiting(CIMultiDict({WAITING_HEADER.upper(): told})) == understood
    assert waiting({}) == 0


@pytest.mark.parametrize("offered", [ALPN, "http/1.1", ""])
async def test_whether_the_far_end_knows_what_this_is(tmp_path: Path, offered: str) -> None:
    authority = make_authority(tmp_path)
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    cluster = credentials_for(authority, PeerRole.CLUSTER, "eu-1")
    seen: asyncio.Queue[bool] = asyncio.Queue()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(agreed(writer.transport))
        writer.close()

    context = router.server_context(alpn=ALPN)
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    host, port = server.sockets[0].getsockname()
    _, writer = await asyncio.open_connection(
        host,
        port,
        ssl=cluster.client_context(alpn=offered),
        server_hostname="r1.router.fed.test",
    )
    assert agreed(writer.transport) == await seen.get() == (offered == ALPN)
    writer.close()
    server.close()
    await server.wait_closed()


async def test_the_kernel_keeps_a_connection_open() -> None:
    class Transport(asyncio.Transport):
        def __init__(self, sock: socket.socket | None) -> None:
            self.sock = sock

        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return self.sock if name == "socket" else default

    with socket.socket() as sock:
        keep_open(Transport(sock))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 20
    keep_open(Transport(None))
    assert not agreed(Transport(None))


def test_contexts_of_different_protocols_are_kept_apart(tmp_path: Path) -> None:
    held = credentials_for(make_authority(tmp_path), PeerRole.CLUSTER, "eu-1")
    plain, reverse = held.client_context(), held.client_context(alpn=ALPN)
    assert plain is held.client_context() is not reverse is held.client_context(alpn=ALPN)
    assert isinstance(reverse, ssl.SSLContext)
    assert held.is_current(plain)
    assert held.is_current(reverse)
