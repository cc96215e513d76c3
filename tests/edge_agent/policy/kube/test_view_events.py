"""Properties of the view: the order of events, and what goes leaves nothing behind."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.policy.kube.fields import key_of
from edge_agent.policy.kube.view import KINDS, OURS, KubeView
from federation.contract.capacity import Capacity
from federation.contract.errors import Invalid
from tests.edge_agent.policy.kube.fixture_files import cases, listed, of_kind
from tests.edge_agent.policy.kube.worlds import anything

Event = tuple[str, dict[str, Any]]  # change, object

events = st.lists(
    st.tuples(st.sampled_from(("ADDED", "MODIFIED", "MODIFIED", "DELETED")), anything), max_size=25
)


def _left(happened: list[Event]) -> list[dict[str, Any]]:
    """What the API server has after these events."""
    there: dict[tuple[str, tuple[str, str]], dict[str, Any]] = {}
    for change, obj in happened:
        if change == "DELETED":
            there.pop((obj["kind"], key_of(obj)), None)
        else:
            there[obj["kind"], key_of(obj)] = obj
    return list(there.values())


def _fresh(objects: list[dict[str, Any]]) -> KubeView:
    view = KubeView()
    for kind in KINDS:
        view.replace(kind, of_kind(kind, objects))
    return view


def _sound(seen: Capacity) -> None:
    for pool in seen.pools:
        assert 0 <= pool.free <= pool.allocatable <= pool.total, pool
        assert 0 <= pool.ours <= pool.allocatable - pool.free, pool
        assert 0 <= pool.physical <= pool.total, pool
    order = [(pool.node, pool.resource) for pool in seen.pools]
    assert order == sorted(order)


@settings(max_examples=60, deadline=None)
@given(events, st.booleans())
def test_events_come_to_the_same_as_a_fresh_list(happened: list[Event], look: bool) -> None:
    view = KubeView()
    for change, obj in happened:
        view.apply(obj["kind"], change, obj)
        if look:  # what was worked out in between must not matter
            _sound(view.capacity())
    fresh = _fresh(_left(happened))
    assert view.capacity() == fresh.capacity()
    assert repr(view) == repr(fresh)


@settings(max_examples=60, deadline=None)
@given(st.lists(anything, max_size=15, unique_by=lambda o: (o["kind"], key_of(o))), st.randoms())
def test_the_order_between_objects_does_not_matter(
    objects: list[dict[str, Any]], dice: Any
) -> None:
    shuffled = list(objects)
    dice.shuffle(shuffled)
    view = KubeView()
    for obj in shuffled:
        view.apply(obj["kind"], "ADDED", obj)
    assert view.capacity() == _fresh(objects).capacity()


@settings(max_examples=60, deadline=None)
@given(events)
def test_what_comes_and_goes_leaves_nothing_behind(happened: list[Event]) -> None:
    view = KubeView()
    for change, obj in happened:
        view.apply(obj["kind"], change, obj)
    view.capacity()
    for obj in _left(happened):
        view.apply(obj["kind"], "DELETED", obj)
    assert view.capacity() == Capacity()
    empty = KubeView()
    empty.capacity()
    assert _state(view) == _state(empty)


@settings(max_examples=60, deadline=None)
@given(events, events)
def test_a_new_list_replaces_all_that_was_known(first: list[Event], then: list[Event]) -> None:
    view = _fresh(_left(first))
    view.capacity()
    for kind in KINDS:
        view.replace(kind, of_kind(kind, _left(then)))
    assert view.capacity() == _fresh(_left(then)).capacity()


def _state(view: KubeView) -> dict[str, Any]:
    """All that a view holds, without what it was made with."""
    return {
        name: value
        for name, value in vars(view).items()
        if name not in ("_read", "_note", "_now") and not callable(value)
    }


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_a_recorded_cluster_can_come_as_events_in_reverse(case: Any) -> None:
    view = case.view()
    for obj in reversed(case.objects):
        view.apply(obj["kind"], "ADDED", obj)
        _sound(view.capacity())
    assert view.capacity() == listed(case).capacity()


def test_a_bookmark_says_nothing() -> None:
    view = KubeView()
    bookmark = {"kind": "Node", "metadata": {"resourceVersion": "7"}}
    view.apply("Node", "BOOKMARK", bookmark)
    assert view.capacity() == Capacity()


def test_a_foreign_kind_is_refused() -> None:
    with pytest.raises(Invalid, match="'Service' objects tell nothing"):
        KubeView().replace("Service", ())
    with pytest.raises(Invalid, match="'Service' objects tell nothing"):
        KubeView().apply("Service", "ADDED", {})


def test_nothing_new_costs_nothing() -> None:
    case = cases()[0]
    view = listed(case)
    seen = view.capacity()
    for obj in case.objects:
        view.apply(obj["kind"], "MODIFIED", obj)
    assert view.capacity() is seen


WORDS = [
    "metadata",
    "name",
    "labels",
    "spec",
    "nodeName",
    "taints",
    "containers",
    "resources",
    "requests",
    "devices",
    "pool",
    "driver",
    "attributes",
    "status",
    "capacity",
    "allocatable",
    "conditions",
    "allocation",
    "results",
    "nvidia.com/gpu",
]
NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)
    ),
    max_leaves=30,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(WORDS), NONSENSE, max_size=5), st.sampled_from(KINDS))
def test_whatever_an_object_holds_is_read(obj: Any, kind: str) -> None:
    view = KubeView()
    view.apply(kind, "ADDED", obj)
    _sound(view.capacity())


def _ours_on_a_claimed_device(where: str) -> list[dict[str, Any]]:
    """A node, its device, a claim on it, and our pod, which is bound to `where` or waits."""
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    result = {"driver": "gpu.nvidia.com", "pool": "a", "device": "gpu-0"}
    pool = {"name": "a", "generation": 1, "resourceSliceCount": 1}
    devices = [{"name": "gpu-0"}, {"name": "gpu-1"}]
    return [
        {
            "kind": "Node",
            "metadata": {"name": "a"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        },
        {
            "kind": "ResourceSlice",
            "metadata": {"name": "s"},
            "spec": {
                "driver": "gpu.nvidia.com",
                "nodeName": "a",
                "pool": pool,
                "devices": devices,
            },
        },
        {
            "kind": "ResourceClaim",
            "metadata": {"namespace": "ml", "name": "c"},
            "status": {
                "allocation": {"devices": {"results": [result]}},
                "reservedFor": [{"resource": "pods", "name": "p"}],
            },
        },
        {
            "kind": "Pod",
            "metadata": {"namespace": "ml", "name": "p", "labels": OURS},
            "spec": {
                **({"nodeName": where} if where else {}),
                "resourceClaims": [{"name": "g", "resourceClaimName": "c"}],
            },
            "status": {"phase": "Pending", "conditions": [] if where else [waits]},
        },
    ]


@pytest.mark.parametrize(("where", "ours"), [("a", 1), ("elsewhere", 1), ("", 0)])
def test_devices_of_our_claims_are_ours_in_whatever_order_it_is_heard(
    where: str, ours: int
) -> None:
    objects = _ours_on_a_claimed_device(where)
    for order in permutations(objects):
        view = KubeView()
        for obj in order:
            view.apply(obj["kind"], "ADDED", obj)
            view.capacity()
        (pool,) = view.capacity().pools
        assert (pool.free, pool.ours) == (1, ours)
        view.apply("Pod", "DELETED", objects[-1])
        assert [pool.ours for pool in view.capacity().pools] == [0]
        assert view.capacity() == _fresh(objects[:-1]).capacity()
