"""Requests over connections that the cluster dialled, answered as over dialled ones."""

import asyncio
import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.policy.reversing import StockLimits
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Revocation
from federation.runtime.clock import SystemClock
from tests.contract.reversed_rig import CHAT, CLUSTER, INFER, LOOPS, Router, joined, run, until
from tests.pki import issue_into, make_authority, trust_of

STREAM = {
    "model": "text",
    "messages": [{"role": "user", "content": " ".join(map(str, range(50)))}],
    "stream": True,
}
REQUESTS: list[tuple[str, bytes | dict[str, object]]] = [
    (INFER, {"inputs": [{"name": "x", "data": [1, 2]}], "id": "7"}),
    (INFER, b"no json"),
    ("/v2/models/text/generate", {"text_input": "a b"}),
    ("/v2/models/text/generate_stream", {"text_input": "a b c d"}),
    ("/v1/completions", {"model": "text", "prompt": "a b"}),
    (CHAT, STREAM),
    (CHAT, STREAM | {"stream": False}),
]
BIG_BYTES = 64_000_000


async def big(router: Router, head: bytes, tail: bytes) -> tuple[int, int, str]:
    """Send a big tensor, which comes back; return status, length and digest of the answer."""
    named = {"Inference-Header-Content-Length": str(len(head))}
    status, body = await router.post(INFER, head + tail, **named)
    return status, len(body), hashlib.sha256(body[-len(tail) :]).hexdigest()


@pytest.mark.parametrize("loop", LOOPS)
def test_answers_are_equal_to_those_over_dialled_connections(tmp_path: Path, loop: str) -> None:
    async def scenario() -> None:
        authority = make_authority(tmp_path)
        found = []
        head = json.dumps({"inputs": [{"name": "x"}]}).encode()
        tail = bytes(range(256)) * ((BIG_BYTES - len(head)) // 256)
        for dialled in (False, True):
            async with joined(authority, dialled=dialled) as (site, router):
                answers = [await router.post(path, body) for path, body in REQUESTS]
                answers += [await router.post(path, body) for path, body in REQUESTS]
                found.append((answers, await big(router, head, tail)))
                if not dialled:
                    await until(lambda r=router: r.counts().lent == 0)  # type: ignore[misc]
                    assert router.counts().idle == site.stock().idle <= 6
        assert found[0] == found[1]
        assert [status for status, _ in found[0][0]][: len(REQUESTS)] == [200, 400, *[200] * 5]
        status, length, digest = found[0][1]
        assert (status, digest) == (200, hashlib.sha256(tail).hexdigest())
        assert length > len(tail)

    run(loop, scenario())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_burst_of_two_hundred_starts_from_four_idle_connections(
    tmp_path: Path, loop: str
) -> None:
    async def scenario() -> None:
        async with joined(make_authority(tmp_path)) as (site, router):
            assert router.counts().idle == 4
            site.engine.infer_s = 0.05
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(router.infer()) for _ in range(200)]
            assert [task.result() for task in asked] == [200] * 200
            await until(lambda: router.counts().lent == router.counts().waiting == 0)
            assert 4 < len(site.dialler.lines[0].all) <= 256  # type: ignore[union-attr]
            assert site.engine.requests["m--v1"] == 200  # each ran once

    run(loop, scenario())


async def test_long_streams_get_connections_of_their_own_and_more_are_idle(tmp_path: Path) -> None:
    async with joined(make_authority(tmp_path)) as (site, router):
        site.engine.infer_s = 0.05
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(router.post(CHAT, STREAM)) for _ in range(30)]
            await until(lambda: site.stock().busy == 30)
            await until(lambda: site.stock().idle >= 15)
            assert await router.infer() == 200
        assert {task.result()[0] for task in streams} == {200}


async def test_a_client_that_leaves_stops_the_generation(tmp_path: Path) -> None:
    async with joined(make_authority(tmp_path)) as (site, router):
        site.engine.infer_s = 0.05
        assert router.session is not None
        async with router.session.post(router.url + CHAT, json=STREAM) as response:
            await response.content.readany()
            response.close()
        await until(lambda: site.engine.abandoned == 1)
        await until(lambda: (c := router.counts()).idle == 4 and c.lent == 0)
        assert await router.infer() == 200


async def test_a_router_that_restarts_is_dialled_again_within_a_second(tmp_path: Path) -> None:
    async with joined(make_authority(tmp_path)) as (site, router):
        await router.stop()
        await until(lambda: site.stock().idle == 0)
        await asyncio.sleep(3)  # long enough for the waits to have grown
        clock = asyncio.get_running_loop()
        await router.start()
        router.route_to(site, version=2)
        began_s = clock.time()
        await until(lambda: router.counts().idle >= 1)
        took_s = clock.time() - began_s
        print(f"reconnected after {took_s:.2f} s")
        assert took_s < 3
        assert await router.infer() == 200
        await until(lambda: router.counts().idle >= 4)


async def test_an_agent_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    async with joined(make_authority(tmp_path)) as (site, router):
        site.engine.infer_s = 0.2
        asked = asyncio.get_running_loop().create_task(router.infer())
        await until(lambda: router.counts().lent == 1)
        await site.kill()
        assert await asked in (502, 503)
        await until(lambda: router.counts().idle == 0)
        status, body = await router.post(INFER, {"inputs": []})
        assert (status, b"has no connection to this router" in body) == (503, True)
        waiting = asyncio.get_running_loop().create_task(router.infer())
        await until(lambda: router.counts().waiting == 1)
        await site.dial(router.address)
        assert await waiting == 200  # it waited for the agent's return


async def test_an_agent_that_stops_finishes_what_it_does(tmp_path: Path) -> None:
    async with joined(make_authority(tmp_path)) as (site, router):
        site.engine.infer_s = 0.02
        stream = asyncio.get_running_loop().create_task(router.post(CHAT, STREAM))
        await until(lambda: site.stock().busy == 1)
        stopping = asyncio.get_running_loop().create_task(site.stop())
        await until(lambda: router.counts().idle == 0)  # said goodbye to, and closed
        assert router.counts().lent == 1
        status, body = await stream
        assert (status, body.endswith(b"data: [DONE]\n\n")) == (200, True)
        await stopping
        await until(lambda: router.counts().lent == 0)


async def test_no_request_is_lost_while_the_stock_shrinks_and_moves(tmp_path: Path) -> None:
    """Giving up idle connections must never cost a request that is on its way."""
    stock = StockLimits(surplus_s=0.0, shrink_s=0.0)
    async with joined(make_authority(tmp_path), stock=stock) as (site, router):
        stop = asyncio.Event()
        statuses: list[int] = []
        lost: list[bytes] = []

        async def ask() -> None:
            while not stop.is_set():
                status, body = await router.post(INFER, {"inputs": []})
                statuses.append(status)
                if status != 200:
                    lost.append(body)

        id = PeerId("fed.test", PeerRole.CLUSTER, CLUSTER)
        authority = make_authority(tmp_path)  # reads the same roots
        async with asyncio.TaskGroup() as group:
            for wave in range(6):
                stop.clear()
                asking = [group.create_task(ask()) for _ in range(2 if wave % 2 else 30)]
                await asyncio.sleep(0.3)
                if wave in (2, 3):
                    issue_into(site.credentials, authority, id, generation=2)
                    await until(
                        lambda: all(
                            one.leaf is site.credentials.leaf
                            for one in site.dialler.lines[0].all  # type: ignore[union-attr]
                        )
                    )
                stop.set()
                await asyncio.gather(*asking)
        assert lost == []
        assert len(statuses) > 100
        assert site.engine.requests["m--v1"] == len(statuses)


async def test_a_renewed_certificate_moves_everything_and_a_stream_goes_on(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    async with joined(authority) as (site, router):
        site.engine.infer_s = 0.02
        stream = asyncio.get_running_loop().create_task(router.post(CHAT, STREAM))
        await until(lambda: site.stock().busy == 1)
        line = site.dialler.lines[0]  # type: ignore[union-attr]
        before = set(line.all)
        id = PeerId("fed.test", PeerRole.CLUSTER, CLUSTER)
        issue_into(site.credentials, authority, id, generation=2)
        await until(lambda: len(line.all & before) == 1)  # the one that is busy
        assert (await stream)[0] == 200
        await until(lambda: not line.all & before)
        assert {one.peer.generation for one in router.pool._open} == {2}  # type: ignore[union-attr]


async def test_a_revoked_cluster_is_cut_off_at_once_and_not_let_in_again(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    async with joined(authority) as (site, router):
        site.engine.infer_s = 0.05
        stream = asyncio.get_running_loop().create_task(router.post(CHAT, STREAM))
        await until(lambda: router.counts().lent == 1)
        id = PeerId("fed.test", PeerRole.CLUSTER, CLUSTER)
        revoked = (Revocation(uri=id.uri, below=2),)
        began_s = asyncio.get_running_loop().time()
        router.credentials.keep_trust(trust_of(authority, 2, revoked=revoked))
        await until(lambda: router.counts().idle == router.counts().lent == 0)
        assert asyncio.get_running_loop().time() - began_s < 3
        await asyncio.gather(stream, return_exceptions=True)
        await until(lambda: router.pool.refused >= 2)  # type: ignore[union-attr]
        assert router.counts().idle == 0
        await asyncio.sleep(1.5)
        assert router.pool.refused < 20  # type: ignore[union-attr]  # no storm
        issue_into(site.credentials, authority, id, generation=2)  # an operator let it join anew
        await until(lambda: router.counts().idle == 4)
        assert await router.infer() == 200


async def test_a_revoked_router_is_left_and_not_served(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    async with joined(authority) as (site, router):
        await until(lambda: site.stock().idle == 4)
        uri = PeerId("fed.test", PeerRole.ROUTER, "r1").uri
        revoked = (Revocation(uri=uri, below=2),)
        site.credentials.keep_trust(trust_of(authority, 2, revoked=revoked))
        await until(lambda: site.stock().total - site.stock().dialling == 0)
        await until(lambda: router.counts().idle == 0)
        await until(lambda: "is revoked" in repr(site.dialler))


async def test_a_router_whose_certificate_ended_is_not_served(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    async with joined(authority) as (site, router):
        id = PeerId("fed.test", PeerRole.ROUTER, "r1")
        issue_into(router.credentials, authority, id, life=timedelta(seconds=3))
        leaf = router.credentials.leaf
        assert site.dialler is not None
        assert leaf is not None
        site.dialler.use(())
        await until(lambda: router.counts().idle == 0)
        site.dialler.use((router.address,))  # connections made with the short-lived certificate
        await until(lambda: router.counts().idle == 4)
        assert await router.infer() == 200
        await until(lambda: SystemClock().utc() >= leaf.facts.not_after)
        assert await router.infer() == 503
        assert site.engine.requests["m--v1"] == 1
        issue_into(router.credentials, authority, id)
        await until(lambda: router.counts().idle >= 4, 15)
        assert await router.infer() == 200


async def test_all_routers_of_the_list_are_dialled_and_one_that_left_is_left(
    tmp_path: Path,
) -> None:
    authority = make_authority(tmp_path)
    other = Router(authority, name="r2")
    await other.start()
    async with joined(authority) as (site, router):
        assert site.dialler is not None
        site.dialler.use((router.address, other.address))
        await until(lambda: other.counts().idle == router.counts().idle == 4)
        site.dialler.use((other.address,))
        await until(lambda: router.counts().idle == 0)
        assert other.counts().idle == 4
        assert [line.name for line in site.dialler.lines] == ["r2"]
        await other.stop()
