from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from edge_agent.sync.metrics import SyncCollector
from tests.edge_agent.package_server import PackageServer, sync_side


@pytest.fixture
async def server() -> AsyncIterator[PackageServer]:
    server = PackageServer()
    await server.start()
    yield server
    await server.stop()


async def test_what_was_moved_is_told_by_its_way(server: PackageServer, tmp_path: Path) -> None:
    side = sync_side(server, tmp_path)
    registry = CollectorRegistry()
    registry.register(SyncCollector(side.syncer))
    assert 'fed_agent_sync_bytes_total{way="from-origin"} 0.0' in generate_latest(registry).decode()
    await side.syncer.stage("m", 1, server.add(tmp_path, "m", 1, {"a": b"a" * 5000}))
    page = generate_latest(registry).decode()
    await side.syncer.close()
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")
    assert float(values['fed_agent_sync_bytes_total{way="from-origin"}']) > 5000
    assert float(values['fed_agent_sync_bytes_total{way="to-peers"}']) == 0
    assert values["fed_agent_sync_running"] == "0.0"
    assert values['fed_agent_packages_disk_bytes{what="budget"}'] == "0.0"
