"""Dynamic resource allocation as its objects tell it: slices of devices, claims, device classes.

Input: ResourceSlices, ResourceClaims and DeviceClasses as plain JSON (resource.k8s.io/v1; the
betas' other nesting is read as well). Output: records of what concerns GPUs.
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from edge_agent.policy.kube.fields import MIB, Json, at, items, mapping, quantity, text, whole
from edge_agent.policy.kube.labels import bare
from edge_agent.policy.kube.names import is_gpu_name, vendor_of
from edge_agent.policy.kube.tolerations import HARD, written

ANY_NODE = ""  # the node of devices that several nodes can reach
_PCI_BUS_ID = "resource.kubernetes.io/pciBusID"
_GPU_TYPES = ("gpu", "mig")
_DRIVER = re.compile(r"""device\.driver\s*==\s*["']([^"']+)["']""")
_TYPE = re.compile(r"""device\.attributes\[["']([^"']+)["']\]\.type\s*==\s*["']([^"']+)["']""")


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceDevice:
    """One device of a slice, or one way to cut a device; `parts` claims can share it."""

    name: str
    node: str
    kind: str = ""  # the driver's own word: "gpu", "mig", "amdgpu-partition"
    id: str = ""
    parent: str = ""  # of a partition: what it is cut from
    vendor: str
    product: str = ""
    memory_mib: int = 0
    architecture: str = ""
    compute_capability: str = ""
    profile: str = ""
    taint: str = ""
    parts: int = 1
    steps: tuple[tuple[str, Decimal], ...] = ()  # what each share takes of which capacity
    consumes: tuple[tuple[tuple[str, str], Decimal], ...] = ()  # (counter set, counter), amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of the list of devices that a driver has in one pool."""

    name: str
    driver: str
    pool: str
    generation: int
    slices: int  # how many make the whole list
    nodes: frozenset[str]
    devices: tuple[SliceDevice, ...] = ()
    counters: Mapping[tuple[str, str], Decimal] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Return what names its pool in the cluster."""
        return self.driver, self.pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A device that a claim holds, or the `consumed` capacities of one that claims share."""

    driver: str
    pool: str
    device: str
    consumed: tuple[tuple[str, Decimal], ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Return what names its pool in the cluster."""
        return self.driver, self.pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a claim holds, and what it waits for, by device class."""

    holds: tuple[Hold, ...] = ()
    wants: tuple[tuple[str, int], ...] = ()
    pods: tuple[str, ...] = ()  # who may use it


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceClass:
    """A name that claims ask by. `driver` and `kind` are what it selects, as far as we can read
    its expressions; `resource` is the extended resource that pods may ask for instead."""

    name: str
    driver: str = ""
    kind: str = ""
    resource: str = ""
    gpu: bool = False


def read_slice(obj: Json) -> Slice | None:
    """Return the record of a slice; None if it is none of GPUs."""
    spec = mapping(obj, "spec")
    driver, node = text(spec, "driver"), _node_of(spec)
    per_device = spec.get("perDeviceNodeSelection") is True
    devices = tuple(
        device
        for raw in items(spec, "devices")
        if (device := _device(raw, driver, node, per_device=per_device))
    )
    if devices and not is_gpu_name(driver) and not any(d.kind in _GPU_TYPES for d in devices):
        return None
    counters = {
        (text(one, "name"), name): quantity(at(counter, "value"))
        for one in items(spec, "sharedCounters")
        for name, counter in mapping(one, "counters").items()
    }
    pool = mapping(spec, "pool")
    return Slice(
        name=text(obj, "metadata", "name"),
        driver=driver,
        pool=text(pool, "name"),
        generation=whole(pool.get("generation")),
        slices=whole(pool.get("resourceSliceCount")),
        nodes=frozenset({device.node for device in devices} or {node}),
        devices=devices,
        counters=counters,
    )


def read_claim(obj: Json) -> Claim:
    """Return the record of a claim. A look at all devices (adminAccess) holds none of them."""
    allocation = at(obj, "status", "allocation")
    users = items(obj, "status", "reservedFor")
    return Claim(
        holds=tuple(
            Hold(
                driver=text(one, "driver"),
                pool=text(one, "pool"),
                device=text(one, "device"),
                consumed=tuple(
                    (name, quantity(n)) for name, n in mapping(one, "consumedCapacity").items()
                ),
            )
            for one in items(allocation, "devices", "results")
            if one.get("adminAccess") is not True
        ),
        wants=() if allocation else tuple(_wants(items(obj, "spec", "devices", "requests"))),
        pods=tuple(text(one, "name") for one in users if one.get("resource") == "pods"),
    )


def read_class(obj: Json) -> DeviceClass:
    """Return the record of a device class."""
    expressions = [text(one, "cel", "expression") for one in items(obj, "spec", "selectors")]
    name, together = text(obj, "metadata", "name"), " && ".join(expressions)
    driver, kind = _selected(together)
    return DeviceClass(
        name=name,
        driver=driver,
        kind=kind,
        resource=text(obj, "spec", "extendedResourceName"),
        gpu=is_gpu_name(name) or any(is_gpu_name(d) for d in _DRIVER.findall(together)),
    )


def _selected(expression: str) -> tuple[str, str]:
    """Return driver and type that an expression asks for and nothing else; ("", "") if it asks for
    more: then only the scheduler knows what it selects."""
    driver, kind = "", ""
    for part in expression.split("&&"):
        asked = part.strip().strip("()").strip()
        if found := _DRIVER.fullmatch(asked):
            driver = found[1]
        elif found := _TYPE.fullmatch(asked):
            kind = found[2]
        else:
            return "", ""
    return driver, kind


def _wants(requests: Iterable[Json]) -> Iterable[tuple[str, int]]:
    for request in requests:
        first = next(iter(items(request, "firstAvailable")), None)
        asked = first or mapping(request, "exactly") or request
        if asked.get("adminAccess") is not True:
            yield text(asked, "deviceClassName"), whole(asked.get("count")) or 1


def _node_of(spec: Json) -> str:
    """Return the one node that can reach the devices; ANY_NODE if there may be several."""
    if name := text(spec, "nodeName"):
        return name
    terms = items(spec, "nodeSelector", "nodeSelectorTerms")
    fields = [f for term in terms for f in items(term, "matchFields")]
    if len(terms) == len(fields) == 1 and not items(terms[0], "matchExpressions"):
        values = fields[0].get("values")
        named = fields[0].get("key") == "metadata.name" and fields[0].get("operator") == "In"
        if named and isinstance(values, list) and len(values) == 1:
            return str(values[0])
    return ANY_NODE


def _device(raw: Json, driver: str, node: str, *, per_device: bool) -> SliceDevice | None:
    body = mapping(raw, "basic") or raw  # v1beta1 nests
    said = {name.rpartition("/")[2]: _value(v) for name, v in mapping(body, "attributes").items()}
    kind = said.get("type", "")
    if "vfio" in kind:
        return None  # the same device, passed to virtual machines
    where = _node_of(body) if per_device else node
    capacity = mapping(body, "capacity")
    profile = said.get("profile") or said.get("partitionProfile") or _amd_mode(said)
    partition = "parentUUID" in said or kind == "mig" or kind.endswith("partition")
    pci = _value(mapping(body, "attributes").get(_PCI_BUS_ID)) or said.get("pcieBusID", "")
    taints = [t for t in items(body, "taints") if text(t, "effect") in HARD]
    steps = _steps(body, capacity)
    return SliceDevice(
        name=text(raw, "name"),
        node=where,
        kind=kind,
        id=said.get("uuid") or (f"{where}/{pci}" if pci and not partition else ""),
        parent=(said.get("parentUUID") or f"{where}/{pci}") if partition else "",
        vendor=vendor_of(driver),
        product=bare(said.get("productName") or said.get("model", "")),
        memory_mib=whole(at(capacity, "memory", "value")) // MIB,
        architecture=said.get("architecture", "").lower(),
        compute_capability=".".join(said.get("cudaComputeCapability", "").split(".")[:2]),
        profile=profile if partition else "",
        taint=written(taints[0]) if taints else "",
        parts=_parts(steps, capacity),
        steps=steps,
        consumes=tuple(
            ((text(one, "counterSet"), name), quantity(at(counter, "value")))
            for one in items(body, "consumesCounters")
            for name, counter in mapping(one, "counters").items()
        ),
    )


def _value(attribute: Any) -> str:
    """Return an attribute's value, which lies under the name of its type."""
    values = attribute.values() if isinstance(attribute, dict) else ()
    return next((str(value) for value in values), "")


def _amd_mode(said: Mapping[str, str]) -> str:
    modes = said.get("computePartition", ""), said.get("memoryPartition", "")
    return "_".join(modes) if all(modes) else ""


def _steps(body: Json, capacity: Json) -> tuple[tuple[str, Decimal], ...]:
    """Return what each claim takes by default of the capacities of a device that claims share."""
    if body.get("allowMultipleAllocations") is not True:
        return ()
    steps = {n: quantity(at(one, "requestPolicy", "default")) for n, one in capacity.items()}
    return tuple((name, step) for name, step in sorted(steps.items()) if step > 0)


def _parts(steps: tuple[tuple[str, Decimal], ...], capacity: Json) -> int:
    shares = [quantity(at(capacity, name, "value")) // step for name, step in steps]
    return max(1, int(min(shares, default=Decimal(1))))
