import asyncio
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from blake3 import blake3

from federation.app import ControlPlane
from federation.contract.types import AssignedVersion
from tests.fakes.control_plane import Operator, operator, package, roots_of, running

DATA = b"0123456789"
DIGEST = blake3(DATA).hexdigest()
PATH = f"/api/v1/blobs/{DIGEST}"


async def test_a_blob_goes_up_and_down(api: Operator) -> None:
    asked = {"digests": [DIGEST, "f" * 64]}
    before = await api.call("POST", "/api/v1/blobs/missing", asked)
    assert before.json["missing"] == [DIGEST, "f" * 64]
    stored = await api.call("PUT", PATH, data=DATA)
    assert (stored.status, stored.json) == (200, {"digest": DIGEST, "size": 10})
    after = await api.call("POST", "/api/v1/blobs/missing", asked)
    assert after.json["missing"] == ["f" * 64]
    read = await api.call("GET", PATH)
    assert (read.status, read.body, read.headers["Content-Length"]) == (200, DATA, "10")


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=4-", 206, b"456789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-100", 206, b"89"),
        ("bytes=-100", 200, DATA),
        ("bytes=0-9", 200, DATA),
        ("bytes=5-4", 200, DATA),  # invalid: ignored
        ("bytes=-", 200, DATA),
        ("bytes=0-1,3-4", 200, DATA),  # more than one: not served
        ("lines=0-1", 200, DATA),
    ],
)
async def test_ranges(api: Operator, header: str, status: int, body: bytes) -> None:
    await api.call("PUT", PATH, data=DATA)
    answer = await api.call("GET", PATH, headers={"Range": header})
    assert (answer.status, answer.body) == (status, body)
    if status == 206:
        start = DATA.index(body)
        assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(body) - 1}/10"


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
async def test_a_range_of_nothing_is_a_problem(api: Operator, header: str) -> None:
    await api.call("PUT", PATH, data=DATA)
    answer = await api.call("GET", PATH, headers={"Range": header})
    assert (answer.status, answer.json["reason"]) == (416, "range")
    assert answer.headers["Content-Range"] == "bytes */10"


async def test_an_empty_blob_is_served(api: Operator) -> None:
    path = f"/api/v1/blobs/{blake3(b'').hexdigest()}"
    assert (await api.call("PUT", path, data=b"")).status == 200
    assert (await api.call("GET", path)).body == b""


async def test_wrong_bytes_are_refused(api: Operator) -> None:
    answer = await api.call("PUT", PATH, data=b"else")
    assert answer.status == 400
    assert DIGEST in answer.json["detail"]
    assert (await api.call("GET", PATH)).status == 404


@pytest.mark.parametrize("digest", ["xyz", "%2e%2e%2f" + "a" * 61, "A" * 64])
async def test_what_is_no_digest_is_refused(api: Operator, digest: str) -> None:
    assert (await api.call("PUT", f"/api/v1/blobs/{digest}", data=DATA)).status == 400
    assert (await api.call("GET", f"/api/v1/blobs/{digest}")).status == 400
    asked = {"digests": [digest]}
    assert (await api.call("POST", "/api/v1/blobs/missing", asked)).status == 400


async def test_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, max_blob_bytes=9) as plane, operator(plane) as api:
        answer = await api.call("PUT", PATH, data=DATA)
        assert (answer.status, answer.json["reason"]) == (413, "too-large")
        short = blake3(DATA[:9]).hexdigest()
        assert (await api.call("PUT", f"/api/v1/blobs/{short}", data=DATA[:9])).status == 200


async def test_agents_fetch_what_they_are_assigned_and_nothing_else(
    api: Operator, plane: ControlPlane
) -> None:
    files, _, _ = package("m", b"weights")
    await api.push("m", b"weights")
    await api.call("PUT", PATH, data=DATA)
    agent = await api.member("a")
    record = plane.loop.state.clusters["a"]
    version = plane.loop.state.models["m"].versions[0]
    assigned = AssignedVersion(model="m", version=1, digest=version.digest)
    assignment = replace(record.assignment, versions=(assigned,))
    plane.loop.state.clusters["a"] = replace(record, assignment=assignment)
    connector = aiohttp.TCPConnector(ssl=agent.client_context())
    nobody = {"Authorization": ""}
    async with aiohttp.ClientSession(connector=connector) as session:

        async def fetch(method: str, path: str) -> tuple[int, bytes]:
            async with session.request(method, f"{api.base}{path}") as response:
                return response.status, await response.read()

        mine = f"/api/v1/blobs/{blake3(files[0]).hexdigest()}"
        assert await fetch("GET", mine) == (200, files[0])
        assert (await fetch("GET", "/api/v1/models/m/versions/1/manifest"))[0] == 200
        assert (await fetch("GET", "/api/v1/whoami"))[1] == b'{"name":"cluster/a","grants":[]}'
        for method, path in (
            ("GET", PATH),
            ("PUT", mine),
            ("GET", "/api/v1/models/m/versions/2/manifest"),
            ("GET", "/api/v1/models"),
            ("GET", "/api/v1/clusters/a"),
            ("POST", "/api/v1/clusters/a/drain"),
        ):
            assert (await fetch(method, path))[0] == 403, (method, path)
    assert (await api.call("GET", mine, headers=nobody)).status == 401


async def test_an_upload_that_is_cut_leaves_nothing(
    api: Operator, plane: ControlPlane, tmp_path: Path
) -> None:
    host, _, port = plane.http_address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=roots_of(plane))
    head = f"PUT {PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {api.token}\r\n"
    writer.write(head.encode() + b"Content-Length: 10\r\n\r\n01234")
    await writer.drain()
    incoming = tmp_path / "blobs" / "incoming"
    async with asyncio.timeout(5):
        while not list(incoming.iterdir()):
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
        while list(incoming.iterdir()):
            await asyncio.sleep(0.01)
    assert (await api.call("GET", PATH)).status == 404
