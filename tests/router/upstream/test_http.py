import asyncio

import pytest

from federation.contract.errors import Invalid
from federation.relay.forward import Deadlines, Forwarder, Outgoing
from router.upstream.http import GivenUp, Upstreams
from tests.router.fakes import gateways, hang


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
    assert Upstreams(Forwarder(), mapping).dialled(url) == dialled


@pytest.mark.parametrize("entry", ["", "a:1", "a:1=b", "a=b:1", "a:1=b:0", "a:1=b:99999"])
def test_a_mapping_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(Invalid, match="--connect-to"):
        Upstreams(Forwarder(), [entry])


async def test_giving_up_frees_those_who_wait_for_this_cluster_only() -> None:
    async with gateways("a", "b") as fakes:
        for fake in fakes.values():
            fake.fault = hang
        upstreams = Upstreams(Forwarder())

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
        async with asyncio.timeout(2):
            assert await asyncio.gather(*waiting) == ["given up"] * 3
            await fakes["a"].cancelled.wait()
        assert not other.done()
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        await upstreams.close()
