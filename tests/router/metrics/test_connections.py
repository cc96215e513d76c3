import asyncio
import contextlib
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from federation.contract.spiffe import PeerRole
from federation.relay.connections import ConnectionLimits
from federation.relay.server import ServerLimits, listen, make_runner
from federation.runtime.clock import SystemClock
from router.metrics.connections import ConnectionCollector
from router.upstream.reverse import ReversePool
from tests.pki import credentials_for, make_authority


def _page(collector: ConnectionCollector) -> str:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector)
    return generate_latest(registry).decode()


async def test_open_and_refused_connections_of_clients_are_told() -> None:
    limits = ServerLimits(connections=ConnectionLimits(total=1))
    runner = make_runner(web.Application(), limits)
    _, port = await listen(runner, "127.0.0.1:0")
    collector = ConnectionCollector(runner.open, None)
    _, first = await asyncio.open_connection("127.0.0.1", port)
    second_reader, second = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        await second_reader.read()  # it was closed at once
    page = _page(collector)
    assert "fed_router_client_connections 1.0" in page
    assert f"fed_router_tasks {len(asyncio.all_tasks())}.0" in page
    assert "fed_router_client_connections_refused_total 1.0" in page
    assert "reverse" not in page
    first.close()
    second.close()
    await runner.cleanup()


async def test_a_door_for_agents_is_told_of(tmp_path: Path) -> None:
    credentials = credentials_for(make_authority(tmp_path), PeerRole.ROUTER, "r1")
    pool = ReversePool(credentials, clock=SystemClock())
    runner = make_runner(web.Application())
    page = _page(ConnectionCollector(runner.open, pool))
    assert "fed_router_reverse_connections_refused_total 0.0" in page
    await pool.close()
