"""How fast the view of a Kubernetes cluster is: the first list, and each event after it.

Run as `python -m benchmarks.kube_view`; see --help. Output: CPU seconds, what they are of plain
json.loads of the same bytes, memory, and CPU microseconds of an event together with the capacity
that follows from it. The objects are as large as an API server's, with fields that nobody reads.
"""

import argparse
import gc
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge_agent.policy.kube.tolerations import GPU_TOLERATIONS
from edge_agent.policy.kube.view import KubeView
from federation.contract.capacity import Capacity

Json = dict[str, Any]
PAGE = 500
GPUS = 8


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kube_view", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--slices", action="store_true", help="half of the nodes have a DRA driver")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)  # only make the lists
    return parser.parse_args()


def _managed(fields: int) -> list[Json]:
    names: Json = {
        f"f:field-number-{n}": {".": {}, "f:name": {}, "f:value": {}} for n in range(fields)
    }
    return [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": names}}]


def make_node(number: int, *, plugin: bool) -> Json:
    offer = {"nvidia.com/gpu": str(GPUS)} if plugin else {}
    offer = {"cpu": "192", "memory": "2113Gi", "ephemeral-storage": "3Ti", "pods": "110", **offer}
    labels = {f"feature.node.kubernetes.io/cpu-cpuid.F{n}": "true" for n in range(60)}
    labels |= {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.count": str(GPUS),
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/gpu.family": "hopper",
    }
    conditions = [{"type": f"Pressure{n}", "status": "False", "message": "x"} for n in range(4)]
    return {
        "metadata": {
            "name": f"node-{number:04}",
            "uid": f"n{number}",
            "labels": labels,
            "managedFields": _managed(40),
        },
        "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
        "status": {
            "capacity": offer,
            "allocatable": offer,
            "conditions": [*conditions, {"type": "Ready", "status": "True"}],
            "images": [{"names": [f"registry/image-{n}"], "sizeBytes": n} for n in range(50)],
        },
    }


def make_pod(number: int, node: str, gpus: int, claim: str = "") -> Json:
    asks = {"nvidia.com/gpu": str(gpus)} if gpus and not claim else {}
    container = {
        "name": "main",
        "image": "registry.example.com/team/image:1.2.3",
        "resources": {"requests": {"cpu": "4", **asks}},
        "env": [{"name": f"NAME_{n}", "value": f"value-{n}"} for n in range(20)],
        "volumeMounts": [{"name": f"v{n}", "mountPath": f"/mnt/{n}"} for n in range(5)],
    }
    return {
        "metadata": {
            "namespace": f"team-{number % 50}",
            "name": f"pod-{number}",
            "uid": f"u{number}",
            "labels": {"app": f"app-{number % 300}", "pod-template-hash": "6b8f9c7d5"},
            "managedFields": _managed(30),
        },
        "spec": {
            "nodeName": node,
            "containers": [container],
            "volumes": [{"name": f"v{n}", "emptyDir": {}} for n in range(5)],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "resourceClaims": [{"name": "g", "resourceClaimName": claim}] if claim else [],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": f"C{n}", "status": "True"} for n in range(5)],
            "containerStatuses": [{"name": "main", "imageID": "sha256:" + "0" * 64}],
        },
    }


def make_slice(node: str) -> Json:
    devices = [
        {
            "name": f"gpu-{n}",
            "attributes": {
                "type": {"string": "gpu"},
                "uuid": {"string": f"GPU-{node}-{n}"},
                "productName": {"string": "NVIDIA H100 80GB HBM3"},
                "architecture": {"string": "Hopper"},
                "cudaComputeCapability": {"version": "9.0.0"},
            },
            "capacity": {"memory": {"value": "81559Mi"}},
        }
        for n in range(GPUS)
    ]
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.nvidia.com", "nodeName": node, "pool": pool, "devices": devices}
    return {"metadata": {"name": f"{node}-gpu"}, "spec": spec}


def make_claim(number: int, node: str, devices: range) -> Json:
    results = [
        {"driver": "gpu.nvidia.com", "pool": node, "device": f"gpu-{n}", "request": "g"}
        for n in devices
    ]
    request = {"name": "g", "exactly": {"deviceClassName": "gpu.nvidia.com"}}
    return {
        "metadata": {"namespace": f"team-{number % 50}", "name": f"claim-{number}"},
        "spec": {"devices": {"requests": [request]}},
        "status": {
            "allocation": {"devices": {"results": results}},
            "reservedFor": [{"resource": "pods", "name": f"pod-{number}"}],
        },
    }


def pages(make: Callable[[int], Json], count: int) -> Iterator[bytes]:
    """Yield a list as an API server sends it."""
    for at in range(0, count, PAGE):
        several = [make(n) for n in range(at, min(at + PAGE, count))]
        yield json.dumps({"items": several}).encode()


def write(chosen: argparse.Namespace, folder: Path) -> None:
    """Write the lists to files, so that making them does not count as memory of reading them."""
    dice = random.Random(0)
    given = [0] * chosen.nodes
    devices = []  # what each pod gets on its node
    for n in range(chosen.pods):
        first = given[n % chosen.nodes]
        given[n % chosen.nodes] = min(GPUS, first + dice.choice((0, 0, 0, 1, 2)))
        devices.append(range(first, given[n % chosen.nodes]))

    def is_plugin(node: int) -> bool:
        return not chosen.slices or node % 2 == 0

    def pod(n: int) -> Json:
        node, gpus = n % chosen.nodes, len(devices[n])
        claim = f"claim-{n}" if gpus and not is_plugin(node) else ""
        return make_pod(n, f"node-{node:04}", gpus, claim)

    others = [n for n in range(chosen.nodes) if not is_plugin(n)]
    claiming = [n for n in range(chosen.pods) if devices[n] and not is_plugin(n % chosen.nodes)]
    kinds: dict[str, Iterator[bytes]] = {
        "Node": pages(lambda n: make_node(n, plugin=is_plugin(n)), chosen.nodes),
        "Pod": pages(pod, chosen.pods),
        "ResourceSlice": pages(lambda n: make_slice(f"node-{others[n]:04}"), len(others)),
        "ResourceClaim": pages(
            lambda n: make_claim(
                claiming[n], f"node-{claiming[n] % chosen.nodes:04}", devices[claiming[n]]
            ),
            len(claiming),
        ),
    }
    for kind, sent in kinds.items():
        for number, page in enumerate(sent):
            (folder / f"{kind}.{number:04}.json").write_bytes(page)


def objects(folder: Path, kind: str) -> Iterator[Json]:
    """Yield the objects of a list, a page at a time."""
    for page in sorted(folder.glob(f"{kind}.*.json")):
        yield from json.loads(page.read_bytes())["items"]


def only_json(folder: Path) -> None:
    for page in sorted(folder.iterdir()):
        json.loads(page.read_bytes())


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def spent(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def first_list(view: KubeView, folder: Path) -> Capacity:
    for kind in ("Node", "Pod", "ResourceSlice", "ResourceClaim"):
        view.replace(kind, objects(folder, kind))
    return view.capacity()


def events(view: KubeView, chosen: argparse.Namespace) -> dict[str, list[float]]:
    """Apply events and read the capacity after each; return CPU microseconds by kind of event."""
    dice = random.Random(1)
    took: dict[str, list[float]] = {"pod": [], "node": [], "waiting pod": [], "claim": []}
    for number in range(chosen.events):
        where = dice.randrange(chosen.nodes)
        plugin = not chosen.slices or where % 2 == 0
        what = dice.choices(list(took), (8, 1, 1, 0 if plugin else 4))[0]
        if what == "claim":
            first = dice.randrange(GPUS)
            obj = make_claim(number % 500, f"node-{where:04}", range(first, first + 1))
            kind, change = "ResourceClaim", "MODIFIED"
        elif what == "node":
            obj = make_node(where, plugin=plugin)
            obj["spec"]["unschedulable"] = dice.random() < 0.5
            kind, change = "Node", "MODIFIED"
        else:
            gpus = dice.randint(0, 4) if plugin or what == "waiting pod" else 0
            obj = make_pod(10**6 + number, f"node-{where:04}", gpus)
            kind, change = "Pod", dice.choice(("ADDED", "MODIFIED"))
            if what == "waiting pod":
                del obj["spec"]["nodeName"]
                why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
                obj["status"]["conditions"] = [why]
        start = time.thread_time()
        view.apply(kind, change, obj)
        view.capacity()
        took[what].append((time.thread_time() - start) * 1e6)
    return took


def main() -> None:
    chosen = options()
    if chosen.write:
        write(chosen, chosen.write)
        return
    with tempfile.TemporaryDirectory(prefix="fed-bench-") as folder:
        again = [sys.executable, "-m", "benchmarks.kube_view", *sys.argv[1:], "--write", folder]
        subprocess.run(again, check=True)
        measure(chosen, Path(folder))


def measure(chosen: argparse.Namespace, folder: Path) -> None:
    size = sum(page.stat().st_size for page in folder.iterdir()) / (1 << 20)
    gc.collect()
    before = peak_mib()
    view = KubeView(tolerations=GPU_TOLERATIONS)
    took = spent(lambda: first_list(view, folder))
    grown = peak_mib() - before
    plain = spent(lambda: only_json(folder))
    seen = view.capacity()
    print(f"{chosen.nodes} nodes, {chosen.pods} pods, {size:.0f} MiB of JSON: {view!r}")
    print(f"{len(seen.pools)} pools, {seen.gpus} GPUs, {seen.free} units free")
    print(f"first list {took:.2f} CPU s, json.loads alone {plain:.2f}: ratio {took / plain:.2f}")
    print(f"memory at its peak: {grown:.0f} MiB more than before, {peak_mib():.0f} MiB in all")
    print(f"{'event, CPU us':16} {'median':>8} {'p99':>8} {'max':>8}")
    for what, times in events(view, chosen).items():
        if not times:
            continue
        times.sort()
        print(
            f"{what:16} {statistics.median(times):8.0f} "
            f"{times[len(times) * 99 // 100]:8.0f} {times[-1]:8.0f}"
        )


if __name__ == "__main__":
    main()
