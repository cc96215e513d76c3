"""Routers with workers, as real processes."""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path

import aiohttp
import msgspec

from federation.contract.spiffe import PeerRole
from federation.contract.trust import RouterAddress
from federation.contract.types import Connectivity, Endpoint, ModelRoute, Replica, Snapshot
from federation.contract.v1 import federation_pb2 as pb
from router.membership import tablefile
from router.membership.watch import SNAPSHOT_FILE
from router.settings import Settings
from router.workers.keeper import workers_of
from tests.contract.reversed_rig import INFER, Site
from tests.pki import credentials_for, make_authority
from tests.router.fakes import eventually, gateways, make_snapshot
from tests.router.membership.test_watch import FakeControlPlane, control_plane
from tests.router.processes import Process, finished, infer, router_process

BODY: dict[str, list[object]] = {"inputs": []}


def workers_below(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def page(router: Process, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(router.admin + path) as response:
        return await response.text()


async def counted(router: Process, name: str) -> float:
    lines = (await page(router, "/metrics")).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


async def ready(router: Process) -> bool:
    return (await page(router, "/readyz")).startswith("ready")


def test_how_many_workers_there_are() -> None:
    assert workers_of(Settings()) == 1
    assert workers_of(Settings(workers=3)) == 3
    assert workers_of(Settings(workers=0)) == len(os.sched_getaffinity(0))


async def test_what_is_wrong_is_told_once_and_nobody_stays(tmp_path: Path) -> None:
    argv = ("--allow-anonymous", "--workers", "2", "--listen", "127.0.0.1:0")
    code, told = await finished(*argv, "--table", str(tmp_path / "missing.json"))
    assert code == 2
    assert told.count("fed-router: ") == 1  # and it ended: workers would hold its stderr open
    table = tmp_path / "table.json"
    table.write_bytes(msgspec.json.encode(make_snapshot({})))
    code, told = await finished(*argv, "--table", str(table), "--geoip-db", str(table))
    assert code == 2
    assert told.count("Cannot read the geo database") == 1


async def test_workers_share_an_address_and_add_up(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    async with gateways("eu-1", "us-1") as fakes:
        path.write_bytes(msgspec.json.encode(make_snapshot({"eu-1": fakes["eu-1"].url})))
        argv = ("--table", str(path), "--allow-anonymous", "--workers", "2")
        async with router_process(*argv) as router:
            both = workers_below(router.process.pid)
            assert len(both) == 2
            sent = [await infer(router.url) for _ in range(40)]  # a connection each
            assert set(sent) == {(200, "eu-1")}
            assert await counted(router, "fed_router_requests_total") == 40
            assert await counted(router, "fed_router_version_attempts_total") == 40
            await _everybody_follows(router, path, fakes["us-1"].url)
            await _one_is_killed(router, both[0])
            await _explained(router)
            await _a_graceful_stop(router, fakes["us-1"])


async def _everybody_follows(router: Process, path: Path, url: str) -> None:
    """A table that changes reaches all workers, under load and without an error."""
    seen: list[tuple[int, str]] = []

    async def client() -> None:
        while seen[-20:].count((200, "us-1")) < 20:
            seen.append(await infer(router.url))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(client())
        while len(seen) < 5:
            await asyncio.sleep(0.01)
        path.write_bytes(msgspec.json.encode(make_snapshot({"us-1": url}, version=2)))
        router.process.send_signal(signal.SIGHUP)
    assert {status for status, _ in seen} == {200}


async def _one_is_killed(router: Process, victim: int) -> None:
    """Only what it was working on fails, it comes back, and no total goes backwards."""
    before = await counted(router, "fed_router_requests_total")
    statuses: Counter[int] = Counter()
    stop = asyncio.Event()

    async def client() -> None:
        while not stop.is_set():
            try:
                statuses[(await infer(router.url))[0]] += 1
            except aiohttp.ClientError:
                statuses[0] += 1

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(client())
        await eventually(lambda: statuses[200] > 20, within_s=60)
        os.kill(victim, signal.SIGKILL)
        killed_at = statuses[200]
        while await ready(router):
            await asyncio.sleep(0.01)
        while not await ready(router):
            assert await counted(router, "fed_router_requests_total") >= before
            await asyncio.sleep(0.05)
        assert statuses[200] > killed_at  # the other one went on
        stop.set()
    assert statuses[0] <= 4  # each client had one request in flight
    assert set(statuses) <= {200, 0}
    assert "fed_router_worker_restarts_total 1.0" in await page(router, "/metrics")
    assert len(workers_below(router.process.pid)) == 2
    assert await counted(router, "fed_router_requests_total") > before


async def _explained(router: Process) -> None:
    """A request is remembered by the worker that had it, and found by whoever asks."""
    async with aiohttp.ClientSession() as session:
        for _ in range(4):
            async with session.post(router.url + "/v2/models/digits/infer", data=b"{}") as response:
                request_id = response.headers["x-request-id"]
            told = json.loads(await page(router, f"/explain?request={request_id}"))
            assert request_id in json.dumps(told)
    assert json.loads(await page(router, "/explain?model=digits"))["chosen"] == "us-1"
    assert "remembers no request" in await page(router, "/explain?request=abc-9")
    assert json.loads(await page(router, "/table"))["clusters"]["us-1"]["healthy"] is True


async def _a_graceful_stop(router: Process, fake: object) -> None:
    """All workers finish what is in flight."""
    fake.delay_s = 0.7  # type: ignore[attr-defined]
    before = fake.inferences  # type: ignore[attr-defined]
    running = [asyncio.get_running_loop().create_task(infer(router.url)) for _ in range(8)]
    await eventually(lambda: fake.inferences == before + 8)  # type: ignore[attr-defined]
    router.process.terminate()
    assert await asyncio.gather(*running) == [(200, "us-1")] * 8
    async with asyncio.timeout(30):
        assert await router.process.wait() == 0


async def test_workers_follow_a_control_plane_as_one_router(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    state = tmp_path / "state"
    mine = credentials_for(authority, PeerRole.ROUTER, "r1", directory=state / "identity")
    theirs = credentials_for(authority, PeerRole.CONTROL_PLANE, "main")
    assert mine.complete
    async with (
        gateways("eu-1", "us-1", authority=authority) as fakes,
        control_plane(theirs) as (fake, port),
    ):
        urls = {name: gateway.url for name, gateway in fakes.items()}
        tablefile.save(state / SNAPSHOT_FILE, make_snapshot({"eu-1": urls["eu-1"]}, version=9))
        argv = (
            *("--control-plane", f"127.0.0.1:{port}", "--name", "r1", "--workers", "2"),
            *("--control-plane-url", f"https://127.0.0.1:{port}", "--state-dir", str(state)),
            *("--allow-anonymous", "--reverse-listen", "127.0.0.1:0"),
        )
        async with router_process(*argv) as router:
            assert await infer(router.url) == (200, "eu-1")  # from disk
            await eventually(lambda: bool(fake.told("status")), within_s=60)
            fake.send(make_snapshot({"us-1": urls["us-1"]}, version=10))
            await eventually(lambda: bool(fake.told("ack")), within_s=60)
            assert fake.told("ack")[0].ack.version == 10
            # From that moment on no worker knows the old one.
            sent = [await infer(router.url) for _ in range(20)]
            assert set(sent) == {(200, "us-1")}
            await eventually(lambda: _attempts(fake) == 21, within_s=60)
            question = pb.ExplainRequest(id="1", model="digits")
            fake.outbox.put_nowait(pb.RouterInstruction(explain=question))
            await eventually(lambda: bool(fake.told("explanation")), within_s=60)
            told = fake.told("explanation")[0].explanation
            assert json.loads(told.document_json)["chosen"] == "us-1"
            last = fake.told("status")[-1].status
            assert [c.cluster for c in last.clusters] == ["us-1"]
            await _behind_nat(router, fake, Site(authority, name="cn-1"))


async def _behind_nat(router: Process, fake: FakeControlPlane, site: Site) -> None:
    """A cluster that dials its routers has connections to all workers."""
    address = fake.told("hello")[0].hello.reverse_address
    assert len(address.split(",")) == 2
    await site.start_engine()
    dialler = await site.dial(RouterAddress(name="r1", reverse_address=address))
    try:
        here = Endpoint(cluster="cn-1", region="cn", url="", connectivity=Connectivity.REVERSE)
        fake.send(
            Snapshot(
                version=11,
                models=(ModelRoute(name="m", default_version=1),),
                endpoints=(here,),
                replicas=(Replica(model="m", version=1, cluster="cn-1"),),
            )
        )
        await eventually(lambda: len(fake.told("ack")) == 2, within_s=60)
        await eventually(
            lambda: len(dialler.lines) == 2 and all(line.stock().idle for line in dialler.lines),
            within_s=60,
        )
        async with aiohttp.ClientSession() as session:
            for _ in range(20):
                url, close = router.url + INFER, {"Connection": "close"}
                async with session.post(url, json=BODY, headers=close) as response:
                    assert response.status == 200, await response.text()
    finally:
        await site.stop()
        await site.engine.stop()


def _attempts(fake: FakeControlPlane) -> int:
    """What the newest report says was sent to version 2."""
    newest = fake.told("counts")[-1].counts if fake.told("counts") else None
    return sum(sum(v.requests) for v in newest.versions) if newest else 0
