"""The oracle: free >= k on one node, if and only if the scheduler would place a pod of k units."""

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.policy.kube.tolerations import Toleration
from edge_agent.policy.kube.view import KubeView
from tests.edge_agent.policy.kube import worlds
from tests.edge_agent.policy.kube.scheduler_model import most_at_a_time, nodes_for

TOLERATIONS = (
    {"key": "nvidia.com/gpu", "operator": "Exists"},
    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"},
    {"key": "dedicated", "operator": "Equal", "value": "training"},
    {"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "dedicated", "value": "inference", "effect": "NoExecute"},
)


@settings(max_examples=120, deadline=None)
@given(worlds.numbers, st.lists(st.sampled_from(TOLERATIONS), max_size=2))
def test_free_on_a_node_is_what_the_scheduler_would_place(
    number: int, borne: list[dict[str, str]]
) -> None:
    nodes, pods = worlds.cluster(number)
    view = KubeView(tolerations=[Toleration(**one) for one in borne])
    view.replace("Node", nodes)
    view.replace("Pod", pods)
    seen = view.capacity()
    for resource in worlds.RESOURCES:
        free = {pool.node: pool.free for pool in seen.pools if pool.resource == resource}
        for wanted in range(1, 10):
            fitting = nodes_for(nodes, pods, resource, wanted, borne)
            assert sorted(node for node, n in free.items() if n >= wanted) == sorted(fitting)
        most = max(free.values(), default=0)
        assert nodes_for(nodes, pods, resource, most + 1, borne) == []


@settings(max_examples=50, deadline=None)
@given(worlds.numbers, st.integers(1, 8))
def test_what_is_free_can_be_used_up_one_by_one(number: int, size: int) -> None:
    """Binding pods as the scheduler would, until none fits, leaves blocks that are too small."""
    nodes, pods = worlds.cluster(number)
    resource = worlds.RESOURCES[0]
    view = KubeView()
    view.replace("Node", nodes)
    view.replace("Pod", pods)
    bound = list(pods)
    while fitting := nodes_for(nodes, bound, resource, size, ()):
        before = sum(p.free for p in view.capacity().pools if p.resource == resource)
        pod: worlds.Json = {
            "metadata": {"namespace": "new", "name": f"n{len(bound)}"},
            "spec": {
                "nodeName": fitting[0],
                "containers": [{"resources": {"requests": {resource: str(size)}}}],
            },
            "status": {"phase": "Running"},
        }
        assert most_at_a_time(pod["spec"], resource) == size
        bound.append(pod)
        view.apply("Pod", "ADDED", pod)
        after = sum(p.free for p in view.capacity().pools if p.resource == resource)
        assert before - after == size
    assert all(p.free < size for p in view.capacity().pools if p.resource == resource)
