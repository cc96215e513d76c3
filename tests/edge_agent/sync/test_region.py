"""Several real gateways over mutual TLS fetch one package: the origin is asked once, whoever is
dead, lies, or comes late.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from federation.contract.sync import SyncPeer
from federation.identity.authority import Authority
from tests.edge_agent.sync.packages import Package
from tests.edge_agent.sync.region import Cluster, Region, in_pieces, stock
from tests.edge_agent.sync.store import Store, serving
from tests.pki import make_authority

PIECES = int(os.environ.get("FED_TEST_PIECES", "60"))
SIZE = 128 << 10
NAMES = [f"c{n}" for n in range(6)]
MBYTES = 1.0  # per second and cluster, from the origin: else it is all over before anybody asks


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def store() -> Iterator[Store]:
    with serving() as store:
        yield store


@pytest.fixture
async def region(authority: Authority, tmp_path: Path, store: Store) -> AsyncIterator[Region]:
    async with Region(authority, tmp_path, store.url) as region:
        yield region


def egress(store: Store, package: Package) -> float:
    return store.sent_bytes / package.manifest.size


async def bring_all(clusters: list[Cluster], package: Package, store: Store) -> None:
    offer = stock(store, package)
    async with asyncio.timeout(50):
        paths = await asyncio.gather(*(c.bring(package, offer) for c in clusters))
    for path in paths:
        assert package.is_at(path)


async def test_the_origin_is_asked_once(region: Region, store: Store) -> None:
    package = in_pieces(PIECES, SIZE)
    clusters = [await region.add(name, mbytes_per_second=MBYTES) for name in NAMES]
    region.publish(package.digest, NAMES)
    await bring_all(clusters, package, store)
    assert egress(store, package) <= 1.05
    counted = [c.exchange.finished(package.digest) for c in clusters]
    assert all(p and p.done_bytes == p.total_bytes for p in counted)
    assert all(p and p.from_origin_bytes + p.from_peers_bytes == p.total_bytes for p in counted)
    # Each did its share: nobody gave away more than half of all that was given.
    sent = [c.desk.sent_bytes for c in clusters]
    assert sum(sent) == pytest.approx(5 * package.manifest.size, rel=0.01)  # as far as egress is 1
    assert max(sent) < sum(sent) / 2


async def test_a_dead_member_costs_no_second_copy(region: Region, store: Store) -> None:
    package = in_pieces(PIECES, SIZE)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"https://127.0.0.1:{sock.getsockname()[1]}"
    region.extra.append(SyncPeer(cluster="dead", url=url, digests=(package.digest,)))
    clusters = [await region.add(name, mbytes_per_second=MBYTES) for name in NAMES[:5]]
    region.publish(package.digest, NAMES)
    await bring_all(clusters, package, store)
    assert egress(store, package) <= 1.05


async def test_who_lies_is_dropped_and_the_package_is_right(
    region: Region, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    package = in_pieces(PIECES, SIZE)
    clusters = [await region.add(name, mbytes_per_second=MBYTES) for name in NAMES[:5]]
    liar = await region.add("liar", mbytes_per_second=MBYTES, lies=True)
    region.publish(package.digest, [*NAMES, "liar"])
    with caplog.at_level(logging.ERROR):
        await bring_all([*clusters, liar], package, store)
    own = liar.exchange.finished(package.digest)
    assert own is not None
    # What the liar fetched for itself is of no use to the others.
    assert egress(store, package) - own.from_origin_bytes / own.total_bytes <= 1.05
    assert all(c.exchange.bad_peers == 1 for c in clusters)
    assert any("cluster liar" in record.getMessage() for record in caplog.records)


async def test_who_comes_late_finds_it_all_in_the_region(region: Region, store: Store) -> None:
    package = in_pieces(PIECES, SIZE)
    clusters = [await region.add(name, mbytes_per_second=MBYTES / 2) for name in NAMES]
    region.publish(package.digest, NAMES[:4])
    offer = stock(store, package)
    async with asyncio.timeout(50), asyncio.TaskGroup() as group:
        for cluster in clusters[:4]:
            group.create_task(cluster.bring(package, offer))
        await asyncio.sleep(1.5)
        region.publish(package.digest, NAMES)
        late = [group.create_task(c.bring(package, offer)) for c in clusters[4:]]
    assert egress(store, package) <= 1.15
    assert all(package.is_at(task.result()) for task in late)


async def test_a_cluster_that_cannot_be_dialled_fetches_and_owns_nothing(
    region: Region, store: Store
) -> None:
    package = in_pieces(PIECES // 2, SIZE)
    clusters = [await region.add(name, mbytes_per_second=MBYTES) for name in NAMES[:3]]
    clusters[0].url = ""
    region.publish(package.digest, NAMES)
    await bring_all(clusters, package, store)
    assert egress(store, package) <= 1.05
    own = clusters[0].exchange.finished(package.digest)
    assert own is not None
    assert own.from_origin_bytes == 0


async def test_two_packages_at_once(region: Region, store: Store) -> None:
    first, second = in_pieces(20, SIZE), in_pieces(20, SIZE, model="other")
    clusters = [await region.add(name, mbytes_per_second=MBYTES) for name in NAMES[:3]]
    peers = tuple(
        SyncPeer(cluster=c.name, url=c.url, digests=(first.digest, second.digest)) for c in clusters
    )
    for cluster in clusters:
        cluster.exchange.peers_changed(peers)
    await asyncio.gather(bring_all(clusters, first, store), bring_all(clusters, second, store))
    assert store.sent_bytes <= 1.05 * (first.manifest.size + second.manifest.size)


async def test_what_was_fetched_before_a_cancellation_is_not_fetched_again(
    region: Region, store: Store
) -> None:
    package = in_pieces(PIECES, SIZE)
    cluster = await region.add("alone", mbytes_per_second=4.0)
    region.publish(package.digest, ["alone"])
    offer = stock(store, package)
    task = asyncio.get_running_loop().create_task(cluster.bring(package, offer))
    async with asyncio.timeout(20):
        while not (p := cluster.exchange.progress(package.digest)) or not p.done_bytes:
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert repr(cluster.exchange) == "Exchange(0 running, 1 clusters in the region)"
    sent = store.sent_bytes
    assert 0 < sent < package.manifest.size
    assert package.is_at(await cluster.bring(package, offer))
    assert egress(store, package) < 1.35  # what was on its way is sent again, the rest is not
