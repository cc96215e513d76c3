from edge_agent.policy.kube.nodes import NodeFacts
from edge_agent.policy.kube.pods import PodUse
from edge_agent.policy.kube.pools import Held, held_by, plugin_pools

GPU = "nvidia.com/gpu"
PRODUCT = {f"{GPU}.product": "NVIDIA-L4", f"{GPU}.count": "8", f"{GPU}.replicas": "1"}


def test_what_pods_hold() -> None:
    pods = [
        PodUse(node="n", requests=((GPU, 2), ("example.com/dongle", 9)), ours=True),
        PodUse(node="n", requests=((GPU, 1), ("amd.com/gpu", 4))),
    ]
    assert held_by(pods) == {GPU: Held(3, 2), "amd.com/gpu": Held(4, 0)}


def test_a_node_without_devices_has_no_pools() -> None:
    assert plugin_pools(NodeFacts(name="n"), {}) == ()
    assert plugin_pools(NodeFacts(name="n", offers=((GPU, 0, 0),)), {}) == ()


def test_more_is_held_than_there_is() -> None:
    node = NodeFacts(name="n", offers=((GPU, 4, 4),))
    (pool,) = plugin_pools(node, {GPU: Held(6, 6)})
    assert (pool.total, pool.allocatable, pool.free, pool.ours) == (6, 4, 0, 4)
    assert pool.reason == "2 of 6 devices are gone"


def test_labels_promise_what_a_plugin_does_not_offer() -> None:
    (pool,) = plugin_pools(NodeFacts(name="n", labels=PRODUCT), {})
    assert (pool.resource, pool.total, pool.allocatable, pool.reason) == (
        GPU,
        8,
        0,
        "8 of 8 devices are gone",
    )


def test_labels_promise_nothing_where_a_driver_hands_out() -> None:
    node = NodeFacts(name="n", labels=PRODUCT)
    assert plugin_pools(node, {}, {"nvidia"}) == ()
    assert plugin_pools(node, {GPU: Held(2)}, {"nvidia"}) == ()
    offering = NodeFacts(name="n", labels=PRODUCT, offers=((GPU, 4, 4),))
    (pool,) = plugin_pools(offering, {}, {"nvidia"})
    assert pool.total == 4


def test_partitions_and_shared_units_that_are_lost_are_named_for_what_they_are() -> None:
    cut = NodeFacts(name="n", offers=(("nvidia.com/mig-1g.5gb", 7, 6),))
    assert plugin_pools(cut, {})[0].reason == "1 of 7 partitions is gone"
    shared = NodeFacts(name="n", offers=((GPU, 8, 5),), labels={f"{GPU}.replicas": "4"})
    assert plugin_pools(shared, {})[0].reason == "3 of 8 units are gone"


def test_renamed_units_do_not_miss_those_of_the_old_name() -> None:
    labels = {**PRODUCT, f"{GPU}.count": "2", f"{GPU}.replicas": "4"}
    offers = ((GPU, 0, 0), (f"{GPU}.shared", 8, 8))
    (pool,) = plugin_pools(NodeFacts(name="n", offers=offers, labels=labels), {})
    assert (pool.resource, pool.physical, pool.total) == (f"{GPU}.shared", 2, 8)
