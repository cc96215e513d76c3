from pathlib import Path

from edge_agent.sync.build import SyncSide
from federation.contract.sync import SyncPeer
from tests.edge_agent.package_server import PackageServer, sync_side


async def test_the_parts_belong_together(tmp_path: Path) -> None:
    server = PackageServer()
    server.url = "https://127.0.0.1:1"
    side: SyncSide = sync_side(server, tmp_path)
    side.syncer.peers_changed(
        (SyncPeer(cluster="d", url="https://d"), SyncPeer(cluster="c", url=""))
    )
    assert side.exchange.is_peer("d")
    assert not side.exchange.is_peer("c")  # that is us
    assert side.shelf.peer_view("0" * 64) is None
    assert side.throttle.upload.total_bytes == 0
    await side.syncer.close()
    await server.stop()
