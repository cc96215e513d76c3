import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from federation.contract.errors import Invalid
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Revocation
from federation.contract.types import Connectivity, Endpoint
from federation.identity.authority import Authority
from federation.relay.forward import ConnectFailed, Deadlines, ForwardError, Outgoing
from federation.relay.reversal import ALPN
from federation.relay.server import make_runner
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from router.policy import table as tables
from router.probe import ProbeTimes
from router.upstream.http import GivenUp, Upstreams
from router.upstream.reverse import ReversePool
from tests.pki import TRUST_DOMAIN, credentials_for, issue_into, make_authority, trust_of
from tests.router.fakes import eventually, gateways, hang, make_snapshot, router_for

FAST = ProbeTimes(interval_s=0.1, again_s=0.05, patience_s=0.5)


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("http://edge.example:7500", "http://127.0.0.1:9000"),
        ("http://EDGE.example:7500/", "http://127.0.0.1:9000"),
        ("http://edge.example:7501", "http://edge.example:7501"),
        ("https://secure.example/base/", "https://127.0.0.1:9443/base"),
        ("http://user:pw@other:80", "http://other:80"),
    ],
)
def test_an_advertised_address_is_mapped(url: str, dialled: str) -> None:
    mapping = ["Edge.example:7500=127.0.0.1:9000", "secure.example:443=127.0.0.1:9443"]
    assert Upstreams(mapping).base("eu", url) == dialled


@pytest.mark.parametrize("entry", ["", "a:1", "a:1=b", "a=b:1", "a:1=b:0", "a:1=b:99999"])
def test_a_mapping_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(Invalid, match="--connect-to"):
        Upstreams([entry])


async def test_giving_up_frees_those_who_wait_for_this_cluster_only() -> None:
    async with gateways("a", "b") as fakes:
        for fake in fakes.values():
            fake.fault = hang
        upstreams = Upstreams()

        async def send(cluster: str) -> str:
            outgoing = Outgoing(method="POST", url=fakes[cluster].url + "/v2/models/m/infer")
            try:
                async with upstreams.send(cluster, outgoing, deadlines=Deadlines()):
                    return "answered"
            except GivenUp:
                return "given up"

        loop = asyncio.get_running_loop()
        waiting = [loop.create_task(send("a")) for _ in range(3)]
        other = loop.create_task(send("b"))
        while sum(fake.inferences for fake in fakes.values()) < 4:
            await asyncio.sleep(0.01)
        assert "'a': 3" in repr(upstreams)
        assert upstreams.give_up("a") == 3
        assert upstreams.give_up("a") == 0
        async with asyncio.timeout(10):
            assert await asyncio.gather(*waiting) == ["given up"] * 3
            await fakes["a"].cancelled.wait()
        assert not other.done()
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        await upstreams.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
def router(authority: Authority) -> Credentials:
    return credentials_for(authority, PeerRole.ROUTER, "r")


def cluster(name: str) -> PeerId:
    return PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, name)


async def test_requests_go_over_mutual_tls(authority: Authority, router: Credentials) -> None:
    async with (
        gateways("eu-1", authority=authority) as fakes,
        router_for({"eu-1": fakes["eu-1"].url}, credentials=router, times=FAST) as under_test,
    ):
        assert (await under_test.infer())[0] == 200
        await eventually(lambda: under_test.state.health()["eu-1"][0] is not None)
        assert "pools=['eu-1']" in repr(under_test.upstreams)


@pytest.mark.parametrize("wrong", ["another cluster", "expired", "another authority"])
async def test_who_is_not_that_cluster_gets_no_request_and_the_reason_is_told(
    tmp_path: Path, authority: Authority, router: Credentials, wrong: str
) -> None:
    shown, words = {
        "another cluster": (
            credentials_for(authority, PeerRole.CLUSTER, "us-1"),
            "Hostname mismatch, certificate is not valid for 'eu-1.cluster.fed.test'",
        ),
        "expired": (
            credentials_for(authority, PeerRole.CLUSTER, "eu-1", life=timedelta(seconds=-5)),
            "certificate has expired",
        ),
        "another authority": (
            credentials_for(make_authority(tmp_path / "x"), PeerRole.CLUSTER, "eu-1"),
            "self-signed certificate",
        ),
    }[wrong]
    async with gateways("eu-1", "us-1", authority=authority) as fakes:
        impostor = fakes["eu-1"]
        impostor.credentials = shown
        await impostor.kill()
        await impostor.start()
        urls = {name: fake.url for name, fake in fakes.items()}
        async with router_for(urls, credentials=router) as under_test:
            for _ in range(6):
                status, _, body = await under_test.infer()
                assert (status, json.loads(body)["by"]) == (200, "us-1")
            assert words in under_test.state.health()["eu-1"][2]
            await fakes["us-1"].kill()
            status, _, body = await under_test.infer()
            assert status == 503
            assert words in body.decode()
        assert impostor.inferences == 0


async def test_a_plain_address_is_not_used_by_who_has_an_identity(router: Credentials) -> None:
    async with (
        gateways("eu-1") as fakes,
        router_for({"eu-1": fakes["eu-1"].url}, credentials=router) as under_test,
    ):
        assert (await under_test.infer())[0] == 503
        assert "is plain HTTP" in under_test.state.require_table().unusable["eu-1"]
        assert fakes["eu-1"].inferences == 0


async def test_a_revoked_cluster_loses_its_requests_at_once_and_no_other_does(
    authority: Authority, router: Credentials
) -> None:
    async with gateways("eu-1", "us-1", authority=authority) as fakes:
        urls = {name: fake.url for name, fake in fakes.items()}
        async with router_for(urls, credentials=router) as under_test:
            loop, upstreams = asyncio.get_running_loop(), under_test.upstreams

            async def send(name: str) -> tuple[str, float]:
                outgoing = Outgoing(method="POST", url=fakes[name].url + "/v2/models/m/infer")
                try:
                    async with upstreams.send(name, outgoing, deadlines=Deadlines()) as upstream:
                        return str(upstream.status), loop.time()
                except ForwardError as error:
                    return str(error), loop.time()

            for fake in fakes.values():
                fake.delay_s = 1.0
            running = {name: [loop.create_task(send(name)) for _ in range(5)] for name in fakes}
            await eventually(lambda: sum(fake.inferences for fake in fakes.values()) == 10)
            revoked_at = loop.time()
            revocation = Revocation(uri=cluster("eu-1").uri, below=2)
            router.keep_trust(trust_of(authority, 2, revoked=(revocation,)))
            for words, ended_at in await asyncio.gather(*running["eu-1"]):
                assert "disconnected" in words
                assert ended_at - revoked_at < 0.5
            assert {words for words, _ in await asyncio.gather(*running["us-1"])} == {"200"}
            assert "is revoked" in (await send("eu-1"))[0]
            credentials = fakes["eu-1"].credentials
            assert credentials is not None
            issue_into(credentials, authority, cluster("eu-1"), generation=2)
            assert (await send("eu-1"))[0] == "200"
            joined_anew = loop.create_task(send("eu-1"))
            await eventually(lambda: fakes["eu-1"].inferences == 7)
            router.keep_trust(trust_of(authority, 3, revoked=(revocation,)))
            assert (await joined_anew)[0] == "200"


async def test_a_stream_of_events_outlives_the_credentials_of_both_sides(
    authority: Authority, router: Credentials
) -> None:
    async with (
        gateways("eu-1", authority=authority) as fakes,
        router_for({"eu-1": fakes["eu-1"].url}, credentials=router) as under_test,
    ):
        fake = fakes["eu-1"]
        assert fake.credentials is not None
        asked = {"model": "poet", "prompt": "x", "stream": True}
        async with under_test.session.post(under_test.url + "/v1/completions", json=asked) as sse:
            assert b"first" in await sse.content.readany()
            for generation in range(2, 5):
                router_id = PeerId(TRUST_DOMAIN, PeerRole.ROUTER, "r")
                issue_into(router, authority, router_id, generation=generation)
                issue_into(fake.credentials, authority, cluster("eu-1"), generation=generation)
                assert (await under_test.infer())[0] == 200
            fake.more.set()
            rest = await sse.read()
            assert b"second" in rest
            assert rest.endswith(b"data: [DONE]\n\n")


async def test_pools_of_clusters_that_left_close_once_nothing_runs_on_them(
    authority: Authority, router: Credentials
) -> None:
    async with (
        gateways("eu-1", authority=authority) as fakes,
        router_for({"eu-1": fakes["eu-1"].url}, credentials=router) as under_test,
    ):
        fake, state = fakes["eu-1"], under_test.state
        fake.delay_s = 0.4
        running = asyncio.get_running_loop().create_task(under_test.infer())
        await eventually(lambda: fake.inferences == 1)
        state.swap(tables.build(make_snapshot({}, version=2), state.reach))
        assert "pools=[]" in repr(under_test.upstreams)
        assert (await running)[0] == 200
        await eventually(lambda: fake.connections == 0)


async def test_who_has_not_joined_sends_nothing_and_can_later(
    authority: Authority, router: Credentials
) -> None:
    nobody = Credentials(None)
    async with gateways("eu-1", authority=authority) as fakes:
        upstreams = Upstreams(credentials=nobody)
        url = fakes["eu-1"].url

        async def send() -> int:
            outgoing = Outgoing(method="GET", url=url + "/v2/health/live")
            async with upstreams.send("eu-1", outgoing, deadlines=Deadlines()) as upstream:
                return upstream.status

        with pytest.raises(ConnectFailed, match="it has not joined"):
            await send()
        assert router.leaf is not None
        nobody.install(router.leaf.certificate, router.leaf.key, trust=router.trust)
        assert await send() == 200
        await upstreams.close()


async def test_a_cluster_whose_agent_dials_is_reached_over_its_connections(
    authority: Authority, router: Credentials
) -> None:
    pool = ReversePool(router, clock=SystemClock())
    host, port = await pool.listen("127.0.0.1:0")
    upstreams = Upstreams(credentials=router, reverse=pool)
    endpoint = Endpoint(cluster="nat", region="eu", url="", connectivity=Connectivity.REVERSE)
    upstreams.follow({"nat": endpoint})
    base = upstreams.base("nat", "")
    assert base == "https://nat.cluster.fed.test"

    async def ask() -> str:
        outgoing = Outgoing(method="POST", url=base + "/v2/models/m/infer")
        deadlines = Deadlines(connect_s=0.3)
        async with upstreams.send("nat", outgoing, deadlines=deadlines) as upstream:
            return (await upstream.read(100) or b"").decode()

    with pytest.raises(ConnectFailed, match="no connection to this router; its agent dials"):
        await ask()
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="from behind")

    app.router.add_route("*", "/{path:.*}", answer)
    runner = make_runner(app)
    await runner.setup()
    agent = credentials_for(authority, PeerRole.CLUSTER, "nat")
    loop, server = asyncio.get_running_loop(), runner.server
    assert server is not None
    name = PeerId(TRUST_DOMAIN, PeerRole.ROUTER, "r").dns_name
    await loop.create_connection(
        server, host, port, ssl=agent.client_context(alpn=ALPN), server_hostname=name
    )
    assert await ask() == "from behind"
    assert await ask() == "from behind"
    upstreams.follow({})
    await eventually(lambda: pool.counts()["nat"].idle == 0)
    await upstreams.close()
    await runner.cleanup()
    await pool.close()
