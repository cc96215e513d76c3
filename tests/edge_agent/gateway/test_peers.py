"""What a gateway gives to other clusters, and what a certificate of a cluster cannot reach."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from edge_agent.gateway.peers import PeerDesk
from edge_agent.sync.peer_status import decode_status
from edge_agent.sync.shelf import Shelf
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.sync import SyncPeer
from federation.identity.authority import Authority
from tests.edge_agent.sync.packages import Package
from tests.edge_agent.sync.region import Cluster
from tests.pki import TRUST_DOMAIN, credentials_for, make_authority

PACKAGE = Package({"a.bin": bytes(range(256)) * 4096, "b.bin": b"b" * 1000}, size=64 << 10)
PATH = f"/fed/v1/packages/{PACKAGE.digest}"
NAME = PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "here").dns_name
Answer = tuple[int, bytes, str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def cluster(authority: Authority, tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster("here", authority, tmp_path, "https://127.0.0.1:1")
    await made.open()
    made.exchange.peers_changed(
        tuple(SyncPeer(cluster=name, url="https://x") for name in ("here", "other"))
    )
    yield made
    await made.close()


async def get(
    cluster: Cluster,
    authority: Authority,
    path: str = PATH,
    *,
    who: str = "other",
    role: PeerRole = PeerRole.CLUSTER,
    span: str = "",
    method: str = "GET",
) -> Answer:
    context = credentials_for(authority, role, who).client_context()
    headers = {"Range": span} if span else {}
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method, cluster.url + path, ssl=context, server_hostname=NAME, headers=headers
        ) as answer,
    ):
        return answer.status, await answer.read(), answer.headers.get("Content-Range", "")


async def test_a_published_package_is_given_range_by_range(
    cluster: Cluster, authority: Authority
) -> None:
    PACKAGE.fetch(cluster.shelf)
    status, body, _ = await get(cluster, authority)
    assert status == 200
    assert decode_status(body).have == b"\x03"
    data = PACKAGE.files["a.bin"]
    for first, last in ((0, len(data) - 1), (7, 7), (65_000, 400_000)):
        answer = await get(cluster, authority, f"{PATH}/pieces/0", span=f"bytes={first}-{last}")
        assert answer == (206, data[first : last + 1], f"bytes {first}-{last}/{len(data)}")
    assert cluster.desk.sent_bytes == len(data) + 1 + 400_000 - 65_000 + 1
    assert cluster.throttle.upload.total_bytes == cluster.desk.sent_bytes


async def test_of_a_staging_only_what_is_held_is_given(
    cluster: Cluster, authority: Authority
) -> None:
    staging = PACKAGE.open(cluster.shelf)
    staging.resume()
    staging.reuse()
    PACKAGE.feed(staging, staging.needed(1))
    status = decode_status((await get(cluster, authority))[1])
    assert (status.have, status.able) == (b"\x02", False)
    found = await get(cluster, authority, f"{PATH}/pieces/1", span="bytes=0-9")
    assert found[:2] == (206, b"b" * 10)
    assert (await get(cluster, authority, f"{PATH}/pieces/0", span="bytes=0-9"))[0] == 404
    staging.close()


@pytest.mark.parametrize(
    ("path", "span", "status"),
    [
        (f"{PATH}/pieces/0", "", 400),
        (f"{PATH}/pieces/0", "bytes=0-", 400),
        (f"{PATH}/pieces/0", "bytes=-5", 400),
        (f"{PATH}/pieces/0", "bytes=5-4", 400),
        (f"{PATH}/pieces/0", "bytes=0-1,3-4", 400),
        (f"{PATH}/pieces/1", "bytes=0-1000", 400),
        (f"{PATH}/pieces/2", "bytes=0-1", 404),
        (f"{PATH}/pieces/99999999", "bytes=0-1", 404),
        (f"{PATH}/pieces/x", "bytes=0-1", 404),
        (f"{PATH}/manifest", "", 404),
        ("/fed/v1/packages/" + "0" * 64, "", 404),
        ("/fed/v1/packages/..%2f..%2fetc", "", 400),
        ("/fed/v1/packages/x/../../v2", "", 403),  # the client makes it /fed/v1/v2
    ],
)
async def test_what_is_not_there(
    cluster: Cluster, authority: Authority, path: str, span: str, status: int
) -> None:
    PACKAGE.fetch(cluster.shelf)
    assert (await get(cluster, authority, path, span=span))[0] == status


async def test_nothing_can_be_written(cluster: Cluster, authority: Authority) -> None:
    for method in ("POST", "PUT", "DELETE", "HEAD"):
        assert (await get(cluster, authority, method=method))[0] == 405


async def test_damaged_bytes_are_not_given(
    cluster: Cluster, authority: Authority, tmp_path: Path
) -> None:
    folder = PACKAGE.fetch(Shelf(tmp_path / "here"))  # by an earlier run of the agent
    file = folder / "b.bin"
    file.chmod(0o644)
    file.write_bytes(b"c" * 1000)
    assert (await get(cluster, authority, f"{PATH}/pieces/1", span="bytes=0-9"))[0] == 404


@pytest.mark.parametrize(
    ("who", "role"),
    [
        ("stranger", PeerRole.CLUSTER),  # of the federation, of another region
        ("here", PeerRole.CLUSTER),
        ("other", PeerRole.ROUTER),
        ("other", PeerRole.CONTROL_PLANE),
    ],
)
async def test_who_may_not_have_packages(
    cluster: Cluster, authority: Authority, who: str, role: PeerRole
) -> None:
    PACKAGE.fetch(cluster.shelf)
    for path, span in ((PATH, ""), (f"{PATH}/pieces/0", "bytes=0-9")):
        assert (await get(cluster, authority, path, who=who, role=role, span=span))[0] == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2"),
        ("GET", "/v2/health/ready"),
        ("GET", "/v2/models/m/versions/1"),
        ("POST", "/v2/models/m/versions/1/infer"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/fed/v1/packages"),
        ("GET", "/"),
    ],
)
async def test_a_cluster_cannot_reach_the_engine(
    cluster: Cluster, authority: Authority, method: str, path: str
) -> None:
    assert (await get(cluster, authority, path, method=method))[0] == 403
    assert not cluster.engine.requests
    # Neither on a connection on which it was served before.
    context = credentials_for(authority, PeerRole.CLUSTER, "other").client_context()
    async with aiohttp.ClientSession() as session:
        for target, expected in ((PATH, 404), (path, 403)):
            verb = "GET" if target == PATH else method
            url = cluster.url + target
            async with session.request(verb, url, ssl=context, server_hostname=NAME) as answer:
                await answer.read()
                assert answer.status == expected


async def test_few_are_answered_at_once_and_a_piece_goes_to_one_at_a_time(
    cluster: Cluster, authority: Authority
) -> None:
    PACKAGE.fetch(cluster.shelf)
    began, gate = asyncio.Event(), asyncio.Event()

    class Slow:
        async def admit(self, _count: int) -> None:
            began.set()
            await gate.wait()

    made = PeerDesk(cluster.exchange, cluster.shelf.peer_view, Slow(), answers=1, wait_s=0.05)
    with contextlib.closing(made), pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster.desk, "handle", made.handle)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(
                get(cluster, authority, f"{PATH}/pieces/1", span="bytes=0-999")
            )
            await asyncio.wait_for(began.wait(), 10)
            same = await get(cluster, authority, f"{PATH}/pieces/1", span="bytes=0-999")
            full = await get(cluster, authority, f"{PATH}/pieces/0", span="bytes=0-999")
            assert (same[0], full[0]) == (202, 202)
            gate.set()
        assert first.result()[:2] == (206, b"b" * 1000)
        again = await get(cluster, authority, f"{PATH}/pieces/1", span="bytes=0-999")
        assert again[0] == 206
