"""The devices of a Kubernetes cluster as its scheduler sees them, kept up to date by events.

Input: lists and watch events of nodes, pods, slices, claims and device classes, as plain JSON, in
any order between objects. Output: a Capacity. An event costs the node it concerns, not the cluster:
nothing of an object is kept but what counts, and sums are made anew from what a node's pods hold,
so that no counter can leak.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, TypeAlias

from edge_agent.policy.kube.dra import Layout, Listed, count, layout, order
from edge_agent.policy.kube.fields import Json, key_of, told
from edge_agent.policy.kube.names import is_gpu_name, unit_of
from edge_agent.policy.kube.nodes import NodeFacts, node_facts
from edge_agent.policy.kube.pods import PodUse, pod_use
from edge_agent.policy.kube.pools import held_by, plugin_pools
from edge_agent.policy.kube.slices import (
    ANY_NODE,
    Claim,
    DeviceClass,
    Hold,
    Slice,
    read_claim,
    read_class,
    read_slice,
)
from edge_agent.policy.kube.tolerations import Toleration
from federation.contract.capacity import Capacity, Device, Pool
from federation.contract.errors import Invalid

OURS = {"federation.inference/managed-by": "edge-agent"}  # labels of the pods that we made

NODE, POD, SLICE = "Node", "Pod", "ResourceSlice"
CLAIM, CLASS = "ResourceClaim", "DeviceClass"
KINDS = (NODE, POD, SLICE, CLAIM, CLASS)

_BY_CLASS = "deviceclass.resource.kubernetes.io/"  # a pod may ask for a class as for a resource
_Key: TypeAlias = tuple[str, str]


class KubeView:
    """What is known of one cluster.

    `tolerations` are those of our workloads; `ours` the labels that all of their pods have.
    """

    def __init__(
        self, *, tolerations: Sequence[Toleration] = (), ours: Mapping[str, str] | None = None
    ) -> None:
        marks = dict(OURS if ours is None else ours)
        self._read: dict[str, Callable[[Json], Any]] = {
            NODE: lambda obj: node_facts(obj, tolerations),
            POD: lambda obj: pod_use(obj, marks),
            SLICE: read_slice,
            CLAIM: read_claim,
            CLASS: read_class,
        }
        self._note: dict[str, Callable[[_Key, Any, Any], None]] = {
            NODE: self._node_changed,
            POD: self._pod_changed,
            SLICE: self._slice_changed,
            CLAIM: self._claim_changed,
            CLASS: self._class_changed,
        }
        self._known: dict[str, dict[_Key, Any]] = {kind: {} for kind in KINDS}
        self._bound: dict[str, dict[_Key, PodUse]] = {}  # by node
        self._waiting: dict[str, int] = {}  # by resource
        self._waiting_claims: dict[_Key, tuple[str, ...]] = {}  # by pod
        self._slices: dict[_Key, dict[str, Slice]] = {}  # by driver and pool
        self._holds: dict[_Key, dict[_Key, tuple[Claim, tuple[Hold, ...]]]] = {}  # and by claim
        self._pools_on: dict[str, set[_Key]] = {}
        self._layouts: dict[_Key, Layout] = {}  # of the slices, while they stay
        self._listed: dict[_Key, Listed] = {}
        # What device plugins offer, by node, beside which vendors' devices that slices list.
        self._plugins: dict[str, tuple[set[str], tuple[Pool, ...]]] = {}
        self._rows: dict[str, tuple[Pool, ...]] = {}
        self._pools: list[Pool] = []  # all of these rows ...
        self._starts: dict[str, int] = {}  # ... and where that of each node begins
        self._devices: dict[str, tuple[Device, ...]] = {}
        self._all_devices: tuple[Device, ...] = ()
        self._notes: dict[tuple[str, ...], str] = {}  # what could not be counted, by node or pool
        self._reason = ""
        self._stale_nodes: set[str] = {ANY_NODE}
        self._stale_pools: set[_Key] = set()
        self._now: Capacity | None = None

    def __repr__(self) -> str:
        kinds = ", ".join(f"{kind} {len(self._known[kind])}" for kind in KINDS)
        held = sum(map(len, self._bound.values())) + sum(map(len, self._holds.values()))
        return f"KubeView({kinds}, {held} holding, {len(self._waiting)} waited for)"

    # ------------------------------------------------------------ what comes in

    def replace(self, kind: str, objects: Iterable[Json]) -> None:
        """Take a new list for all that was known of a kind; raises Invalid for a foreign kind."""
        known, read = self._of(kind)
        there = {}
        for obj in objects:
            if (record := read(obj)) is not None:
                there[key_of(obj)] = record
        for key in known.keys() - there.keys():
            self._put(kind, key, None)
        for key, record in there.items():
            self._put(kind, key, record)

    def apply(self, kind: str, change: str, obj: Json) -> None:
        """Take one event of a watch: ADDED, MODIFIED or DELETED; others (bookmarks) say nothing.

        Raises Invalid for a foreign kind.
        """
        _, read = self._of(kind)
        if change in ("ADDED", "MODIFIED"):
            self._put(kind, key_of(obj), read(obj))
        elif change == "DELETED":
            self._put(kind, key_of(obj), None)

    def _of(self, kind: str) -> tuple[dict[_Key, Any], Callable[[Json], Any]]:
        if kind not in self._known:
            raise Invalid(f"{kind!r} objects tell nothing of capacity; {', '.join(KINDS)} do.")
        return self._known[kind], self._read[kind]

    def _put(self, kind: str, key: _Key, record: Any) -> None:
        known = self._known[kind]
        old = known.pop(key, None) if record is None else known.get(key)
        if old == record:
            return
        if record is not None:
            known[key] = record
        self._now = None
        self._note[kind](key, old, record)

    # ------------------------------------------------------------ what it touches

    def _node_changed(self, key: _Key, old: NodeFacts | None, new: NodeFacts | None) -> None:
        self._stale_nodes.add(key[1])
        self._plugins.pop(key[1], None)

    def _pod_changed(self, key: _Key, old: PodUse | None, new: PodUse | None) -> None:
        for pod, sign in ((old, -1), (new, 1)):
            if pod is None:
                continue
            if not pod.node:
                self._count_waiting(key, pod, sign)
                continue
            on_node = self._bound.setdefault(pod.node, {})
            if sign > 0:
                on_node[key] = pod
            else:
                on_node.pop(key, None)
            if not on_node:
                del self._bound[pod.node]
            self._stale_nodes.add(pod.node)
            self._plugins.pop(pod.node, None)
            if pod.ours:
                for name in pod.claims:
                    claim: Claim | None = self._known[CLAIM].get((key[0], name))
                    self._stale_pools |= {hold.key for hold in claim.holds} if claim else set()

    def _count_waiting(self, key: _Key, pod: PodUse, sign: int) -> None:
        for resource, n in pod.requests:
            self._waiting[resource] = self._waiting.get(resource, 0) + sign * n
            if not self._waiting[resource]:
                del self._waiting[resource]
        if sign < 0:
            self._waiting_claims.pop(key, None)
        elif pod.claims:
            self._waiting_claims[key] = pod.claims

    def _slice_changed(self, key: _Key, old: Slice | None, new: Slice | None) -> None:
        for one in (old, new):
            if one is None:
                continue
            there = self._slices.setdefault(one.key, {})
            if one is new:
                there[one.name] = one
            else:
                there.pop(one.name, None)
            self._layouts.pop(one.key, None)
            self._stale_pools.add(one.key)
            self._stale_nodes |= one.nodes
            nodes = {node for part in there.values() for node in part.nodes}
            for node in one.nodes | nodes:
                here = self._pools_on.setdefault(node, set())
                (here.add if node in nodes else here.discard)(one.key)
                if not here:
                    del self._pools_on[node]
            if not there:
                del self._slices[one.key]

    def _claim_changed(self, key: _Key, old: Claim | None, new: Claim | None) -> None:
        for claim in (old, new):
            for pool in {hold.key for hold in claim.holds} if claim else ():
                there = self._holds.setdefault(pool, {})
                if claim is new and claim is not None:
                    there[key] = claim, tuple(h for h in claim.holds if h.key == pool)
                else:
                    there.pop(key, None)
                if not there:
                    del self._holds[pool]
                self._stale_pools.add(pool)

    def _class_changed(self, key: _Key, old: DeviceClass | None, new: DeviceClass | None) -> None:
        self._layouts.clear()
        self._stale_pools |= self._slices.keys()

    # ------------------------------------------------------------ what comes out

    def capacity(self) -> Capacity:
        """Return what there is; pools sorted by node and resource."""
        if self._now is None or self._stale_nodes:
            self._refresh()
            self._now = Capacity(
                pools=tuple(self._pools),
                devices=self._all_devices,
                reason=self._reason,
                waiting=self._units_waiting(),
            )
        return self._now

    def _refresh(self) -> None:
        classes = tuple(self._known[CLASS].values())
        noted = False
        for key in self._stale_pools:
            slices = self._slices.get(key, {})
            if (there := self._layouts.get(key)) is None:
                there = self._layouts[key] = layout(slices.values(), classes)
            if not slices:
                del self._layouts[key]
            listed = count(there, self._holders(key))
            noted = _keep(self._notes, key, listed.reason) or noted
            _keep(self._listed, key, listed if slices else None)
            for part in slices.values():
                self._stale_nodes |= part.nodes
        self._stale_pools.clear()
        other = shown = False
        for node in self._stale_nodes:
            pools, devices, note = self._row(node)
            before = self._rows.get(node, ())
            other = other or len(before) != len(pools)
            if _keep(self._rows, node, pools) and not other:
                start = self._starts[node]
                self._pools[start : start + len(pools)] = pools
            shown = _keep(self._devices, node, devices) or shown
            noted = _keep(self._notes, (node,), note) or noted
        self._stale_nodes.clear()
        if other:
            self._lay_out()
        if shown:
            by_node = [self._devices[node] for node in sorted(self._devices)]
            self._all_devices = tuple(chain.from_iterable(by_node))
        if noted:
            self._reason = told(self._notes[what] for what in sorted(self._notes))

    def _lay_out(self) -> None:
        """Put the rows of all nodes one after the other."""
        self._pools, self._starts = [], {}
        for node in sorted(self._rows):
            self._starts[node] = len(self._pools)
            self._pools += self._rows[node]

    def _holders(self, key: _Key) -> Iterable[tuple[Hold, bool]]:
        """Yield what claims hold of a pool, and whether one of our pods is behind it."""
        pods: dict[_Key, PodUse] = self._known[POD]
        for (namespace, claim_name), (claim, holds) in self._holds.get(key, {}).items():
            users = (pods.get((namespace, name)) for name in claim.pods)
            ours = any(p.ours and p.node and claim_name in p.claims for p in users if p)
            for hold in holds:
                yield hold, ours

    def _row(self, name: str) -> tuple[tuple[Pool, ...], tuple[Device, ...], str]:
        """Return pools and devices of a node, and what could not be counted there."""
        facts: NodeFacts | None = self._known[NODE].get(("", name))
        if facts is None and name != ANY_NODE:
            return (), (), ""
        listed = [self._listed[key] for key in sorted(self._pools_on.get(name, ()))]
        handed = [pool for one in listed for pool in one.pools.get(name, ())]
        devices = [device for one in listed for device in one.devices.get(name, ())]
        if facts is None:
            return tuple(sorted(handed, key=order)), tuple(devices), ""
        vendors = {pool.vendor for pool in handed}
        known = self._plugins.get(name)
        if known is None or known[0] != vendors:
            held = held_by(self._bound.get(name, {}).values())
            known = self._plugins[name] = (vendors, plugin_pools(facts, held, vendors))
        pools = known[1]
        notes = [
            f"{resource} measures parts of GPUs and is not counted" for resource in facts.measures
        ]
        twice = vendors & {pool.vendor for pool in pools}
        notes += [
            f"{name} offers {vendor} devices twice: those of the device plugin count"
            for vendor in sorted(twice)
        ]
        handed = [_on(facts, pool) for pool in handed if pool.vendor not in twice]
        return tuple(sorted((*pools, *handed), key=order)), tuple(devices), "; ".join(notes)

    def _units_waiting(self) -> int:
        """Return how many units unschedulable pods ask for."""
        classes: dict[_Key, DeviceClass] = self._known[CLASS]
        names = {one.resource for one in classes.values() if one.resource and one.gpu}
        total = sum(
            n
            for resource, n in self._waiting.items()
            if unit_of(resource) is not None
            or resource in names
            or (resource.startswith(_BY_CLASS) and self._of_gpus(resource.removeprefix(_BY_CLASS)))
        )
        wanted = {(key[0], name) for key, names in self._waiting_claims.items() for name in names}
        known: dict[_Key, Claim] = self._known[CLAIM]
        claims = (known.get(key) for key in wanted)
        wants = (want for claim in claims if claim is not None for want in claim.wants)
        return total + sum(n for name, n in wants if self._of_gpus(name))

    def _of_gpus(self, name: str) -> bool:
        known: DeviceClass | None = self._known[CLASS].get(("", name))
        return known.gpu if known is not None else is_gpu_name(name)


def _keep(table: dict[Any, Any], key: object, value: object) -> bool:
    """Have only what says something in a table; return whether it changed."""
    if table.get(key) == value or not (value or key in table):
        return False
    if value:
        table[key] = value
    else:
        del table[key]
    return True


def _on(node: NodeFacts, pool: Pool) -> Pool:
    """Return a pool as it is on a node that may take no new workload."""
    if not node.blocked:
        return pool
    return replace(pool, free=0, reason=told((node.blocked, pool.reason)))
