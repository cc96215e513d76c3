import asyncio

import pytest

from federation.contract.types import Assignment, Snapshot
from federation.publisher import HISTORY, Change, Closed, FellBehind, Publisher, Topic, Topics


def change(revision: int) -> Change:
    return Change(revision=revision, kind="Region", name=f"r{revision}")


async def test_a_router_gets_the_newest_snapshot_at_once_and_skips_what_it_missed() -> None:
    publisher = Publisher()
    publisher.publish_snapshot(Snapshot(version=1))
    with publisher.router_subscription() as subscription:
        assert (await subscription.take()).version == 1
        for version in (2, 3):
            publisher.publish_snapshot(Snapshot(version=version))
        assert (await subscription.take()).version == 3
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(subscription.take(), 0.01)
    publisher.publish_snapshot(Snapshot(version=4))
    assert "routers=0" in repr(publisher)


async def test_before_the_first_snapshot_nothing_is_offered() -> None:
    with Publisher().router_subscription() as subscription, pytest.raises(TimeoutError):
        await asyncio.wait_for(subscription.take(), 0.01)


async def test_an_agent_gets_its_own_assignments() -> None:
    publisher = Publisher()
    with publisher.agent_subscription("a", 1) as a, publisher.agent_subscription("b", 1) as b:
        publisher.publish_assignment(Assignment(cluster="a", generation=7))
        publisher.publish_assignment(Assignment(cluster="nobody", generation=1))
        assert (await a.take()).generation == 7
        assert "waiting=False" in repr(b)


async def test_a_closed_epoch_ends_and_a_newer_one_goes_on() -> None:
    publisher = Publisher()
    with publisher.agent_subscription("a", 1) as old, publisher.agent_subscription("a", 2) as new:
        publisher.close_agent("a", 1, "a newer stream took over")
        with pytest.raises(Closed, match="a newer stream took over"):
            await old.take()
        publisher.publish_assignment(Assignment(cluster="a", generation=1))
        assert (await new.take()).generation == 1
    publisher.close_agent("a", 9, "nobody is there")


async def test_watchers_get_what_came_after_their_revision() -> None:
    publisher = Publisher()
    publisher.begin(10)
    waiter = asyncio.get_running_loop().create_task(publisher.wait_for_changes())
    await asyncio.sleep(0)
    publisher.publish_changes([change(11), change(12)])
    await asyncio.wait_for(waiter, 1)
    assert [c.revision for c in publisher.changes_after(10)] == [11, 12]
    assert [c.revision for c in publisher.changes_after(11)] == [12]
    assert publisher.changes_after(12) == []


async def test_a_watcher_from_before_the_start_must_list_again() -> None:
    publisher = Publisher()
    publisher.publish_changes([change(1)])
    waiter = asyncio.get_running_loop().create_task(publisher.wait_for_changes())
    await asyncio.sleep(0)
    publisher.begin(10)
    await asyncio.wait_for(waiter, 1)
    with pytest.raises(FellBehind):
        publisher.changes_after(9)
    assert publisher.changes_after(10) == []


def test_a_watcher_that_is_too_slow_must_list_again() -> None:
    async def publish() -> Publisher:
        publisher = Publisher()
        publisher.publish_changes([change(n) for n in range(1, HISTORY + 3)])
        return publisher

    publisher = asyncio.run(publish())
    with pytest.raises(FellBehind):
        publisher.changes_after(1)
    assert len(publisher.changes_after(2)) == HISTORY


async def test_a_router_is_closed_up_to_a_generation() -> None:
    publisher = Publisher()
    with (
        publisher.router_subscription("r", 1) as old,
        publisher.router_subscription("r", 2) as new,
        publisher.router_subscription("other", 1) as other,
    ):
        publisher.close_router("r", 1, "revoked")
        with pytest.raises(Closed, match="revoked"):
            await old.take()
        publisher.publish_snapshot(Snapshot(version=1))
        assert (await new.take()).version == (await other.take()).version == 1


async def test_a_topic_tells_its_newest_value_at_once_and_each_change() -> None:
    topic: Topic[str] = Topic()
    with topic.subscription() as early:
        topic.publish("one")
        with topic.subscription() as late:
            assert (await early.take(), await late.take()) == ("one", "one")
            topic.publish("two")
            topic.publish("three")
            assert (await early.take(), await late.take()) == ("three", "three")
    assert repr(topic) == "Topic(subscriptions=0)"


async def test_each_cluster_has_a_topic_of_its_own_and_hears_no_news_twice() -> None:
    topics: Topics[int] = Topics()
    topics.publish("a", 1)
    with topics.subscription("a") as a, topics.subscription("b") as b:
        assert await a.take() == 1
        topics.publish("a", 1)
        assert "waiting=False" in repr(a)
        topics.publish("a", 2)
        topics.publish("b", 7)
        assert (await a.take(), await b.take()) == (2, 7)
        topics.keep_only({"a"})
        assert (topics.newest("a"), topics.newest("b")) == (2, None)
