import asyncio
from pathlib import Path

import pytest
from blake3 import blake3

from federation.app import ControlPlane
from tests.fakes.control_plane import Operator, agent_hello, operator, running, stream

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


async def test_agents_read_but_do_not_write(api: Operator, plane: ControlPlane) -> None:
    await api.call("PUT", PATH, data=DATA)
    token = await api.register("a")
    async with stream(plane, "agent", token) as agent:
        await agent.send(agent_hello("a"))
        credential = (await agent.expect("welcome")).credential
    as_agent = {"Authorization": f"Bearer {credential}"}
    assert (await api.call("GET", PATH, headers=as_agent)).body == DATA
    assert (await api.call("PUT", PATH, data=DATA, headers=as_agent)).status == 403
    as_join = {"Authorization": f"Bearer {token}"}
    assert (await api.call("GET", PATH, headers=as_join)).status == 401


async def test_an_upload_that_is_cut_leaves_nothing(
    api: Operator, plane: ControlPlane, tmp_path: Path
) -> None:
    host, _, port = plane.http_address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
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
