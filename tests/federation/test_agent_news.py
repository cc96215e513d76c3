from datetime import timedelta

from federation.agent_news import AgentNews
from federation.contract.resources import ClusterSpec, DeploymentSpec
from federation.contract.sync import SyncSpec
from federation.policy.events import ClusterApplied
from federation.publisher import Publisher
from tests.federation.policy.world import ACTOR, World


async def test_settings_are_told_at_once_and_only_when_they_change() -> None:
    world, publisher = World(), Publisher()
    world.cluster("a")
    world.cluster("b")
    news = AgentNews(publisher)
    news.tell(world.state, world.now)
    with (
        publisher.sync_settings.subscription("a") as a,
        publisher.sync_settings.subscription("b") as b,
    ):
        assert await a.take() == await b.take() == SyncSpec()
        spec = ClusterSpec(region="eu", sync=SyncSpec(max_mbytes_per_second=2))
        world.do(ClusterApplied(actor=ACTOR, name="a", spec=spec))
        news.tell(world.state, world.now)
        assert (await a.take()).max_mbytes_per_second == 2
        assert "waiting=False" in repr(b)


async def test_peers_are_looked_at_once_a_second_and_told_when_they_changed() -> None:
    world, publisher = World(), Publisher()
    world.cluster("a")
    world.cluster("b")
    news = AgentNews(publisher)
    assert news.tell(world.state, world.now) is None
    with publisher.sync_peers.subscription("a") as heard:
        assert [peer.cluster for peer in await heard.take()] == ["a", "b"]
        world.push("m")
        world.deploy(DeploymentSpec(model="m"))
        due = news.tell(world.state, world.now)
        assert due == world.now + timedelta(seconds=1)
        assert "waiting=False" in repr(heard), "not yet"
        world.now += timedelta(seconds=1)
        assert news.tell(world.state, world.now) is None
        assert [peer.digests for peer in await heard.take()] == [("m:1",), ("m:1",)]
        world.now += timedelta(seconds=1)
        assert news.tell(world.state, world.now) is None
        assert "waiting=False" in repr(heard), "nothing is new"


def test_a_clock_that_was_set_back_silences_nobody() -> None:
    world, publisher = World(), Publisher()
    world.cluster("a")
    news = AgentNews(publisher)
    news.tell(world.state, world.now)
    world.cluster("b")
    assert news.tell(world.state, world.now - timedelta(hours=1)) is None
    told = publisher.sync_peers.newest("a")
    assert told is not None
    assert [peer.cluster for peer in told] == ["a", "b"]


def test_a_cluster_that_is_gone_is_forgotten() -> None:
    world, publisher = World(), Publisher()
    world.cluster("a")
    news = AgentNews(publisher)
    news.tell(world.state, world.now)
    world.remove("Cluster", "a")
    news.tell(world.state, world.now)
    assert publisher.sync_settings.newest("a") is None
    assert publisher.sync_peers.newest("a") is None
    assert "Topics(0)" in repr(news)
