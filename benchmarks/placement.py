"""How long the control plane takes to place deployments on clusters: CPU, one thread.

Input: nothing (BENCH_DEPLOYMENTS, BENCH_CLUSTERS, BENCH_RUNS change the size). Output: a table of
CPU milliseconds, the best of the runs, for

  place    all deployments are new: filter, score and pack every one of them
  settled  the same question again: nothing to do
  event    one deployment changes
  reports  as `settled`, after free units changed at every cluster

in two fleets: `chosen`, where a deployment is for 1 to 5 clusters of all that match, and
`everywhere`, where it is for every cluster of its region. A cluster has 4 nodes with 8 GPUs.

Run by `python -m benchmarks.placement`.
"""

import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from federation.contract.capacity import Capacity, Pool, Resources
from federation.contract.package import ModelPackage
from federation.contract.resources import ClusterSpec, DeploymentSpec, ModelSpec, RegionSpec
from federation.contract.types import (
    Assignment,
    EngineKind,
    EngineStatus,
    Location,
    Observed,
    Runtime,
)
from federation.policy.membership.records import Membership
from federation.policy.meta import Meta
from federation.policy.records import (
    ClusterRecord,
    DeploymentRecord,
    LastObserved,
    ModelRecord,
    RegionRecord,
    VersionRecord,
)
from federation.policy.settle import settle
from federation.policy.state import State, Step
from federation.runtime.collector import collect_rarely

DEPLOYMENTS = int(os.environ.get("BENCH_DEPLOYMENTS", "500"))
CLUSTERS = int(os.environ.get("BENCH_CLUSTERS", "200"))
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
REGIONS = 10
PRODUCTS = ("NVIDIA-L4", "NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-80GB-HBM3")


def _meta(name: str) -> Meta:
    return Meta(name=name, generation=1, resource_version=1, created_at=NOW)


def _cluster(number: int) -> ClusterRecord:
    name = f"cluster-{number:03}"
    product = PRODUCTS[number % len(PRODUCTS)]
    pools = tuple(
        Pool(
            node=f"node-{n}",
            resource="nvidia.com/gpu",
            vendor="nvidia",
            product=product,
            memory_mib=24_576 if "L4" in product else 81_920,
            compute_capability="9.0" if "H100" in product else "8.0",
            physical=8,
            total=8,
            allocatable=8,
            free=8,
        )
        for n in range(4)
    )
    engine = EngineStatus(kind=EngineKind.TRITON, ready=True)
    labels = {"price-per-gpu-hour": f"{1 + number % 7}.5"}
    return ClusterRecord(
        meta=_meta(name),
        spec=ClusterSpec(region=f"region-{number % REGIONS}", labels=labels, allow_code=True),
        membership=Membership(generation=1, accepted=True),
        assignment=Assignment(cluster=name, generation=0),
        last=LastObserved(
            engine=EngineKind.TRITON,
            engine_version="1",
            url=f"https://{name}:7500",
            capacity=Capacity(pools=pools),
            observed=Observed(observed_generation=0, engine=engine),
        ),
    )


def fleet(*, everywhere: bool) -> State:
    """Return clusters, models and deployments of which nothing is placed yet."""
    dice, state = random.Random(7), State()
    for number in range(REGIONS):
        name = f"region-{number}"
        spec = RegionSpec(location=Location(latitude=0, longitude=0))
        state.regions[name] = RegionRecord(meta=_meta(name), spec=spec)
    for number in range(CLUSTERS):
        record = _cluster(number)
        state.clusters[record.meta.name] = record
    for number in range(DEPLOYMENTS):
        model = f"model-{number:03}"
        needs = Resources(
            gpus=dice.choice((1, 1, 1, 2, 4)),
            memory_mib=dice.choice((0, 16_384, 65_536)),
            products=dice.choice(((), (), ("*H100*", "*A100*"))),
        )
        version = VersionRecord(
            version=1,
            digest=f"{number:064x}",
            size=1 << 30,
            files=2,
            package=ModelPackage(name=model, runtime=Runtime.ONNX, resources=needs),
            source="bench",
            created_at=NOW,
            created_by="bench",
        )
        state.models[model] = ModelRecord(meta=_meta(model), spec=ModelSpec(), versions=(version,))
        if everywhere:
            spec_of = DeploymentSpec(model=model, regions=(f"region-{number % REGIONS}",))
        else:
            spec_of = DeploymentSpec(model=model, clusters=dice.randint(1, 5))
        state.deployments[model] = DeploymentRecord(meta=_meta(model), spec=spec_of)
    return state


def _took_ms(work: Callable[[], object]) -> float:
    started_s = time.process_time()
    work()
    return (time.process_time() - started_s) * 1000


def measure(*, everywhere: bool) -> dict[str, float]:
    """Return CPU milliseconds by question, and how many places were found."""
    state = fleet(everywhere=everywhere)

    def settle_all() -> None:
        settle(Step(state, NOW, "bench"))

    took = {"place": _took_ms(settle_all)}
    took["places"] = sum(len(c.assignment.versions) for c in state.clusters.values())
    took["settled"] = _took_ms(settle_all)
    changed = state.deployments["model-007"]
    spec = replace(changed.spec, replicas=2)
    state.deployments["model-007"] = replace(changed, spec=spec)
    took["event"] = _took_ms(lambda: settle(Step(state, NOW, "bench"), {"model-007"}))
    for name, record in list(state.clusters.items()):
        assert record.last is not None
        pools = tuple(replace(p, free=p.free - 1) for p in record.last.capacity.pools)
        last = replace(record.last, capacity=Capacity(pools=pools))
        state.clusters[name] = replace(record, last=last)
    took["reports"] = _took_ms(settle_all)
    return took


def _speed() -> float:
    """CPU milliseconds of a million additions here: other machines are faster or slower."""
    return min(_took_ms(lambda: sum(n + 1 for n in range(1_000_000))) for _ in range(3))


def main() -> None:
    collect_rarely()  # as the control plane does
    print(f"{DEPLOYMENTS} deployments, {CLUSTERS} clusters, CPU ms, best of {RUNS}")
    print(f"(a million additions in Python take {_speed():.0f} ms here)\n")
    titles = ("place", "settled", "event", "reports")
    print(f"{'fleet':<12}" + "".join(f"{title:>10}" for title in titles) + f"{'places':>10}")
    for everywhere in (False, True):
        runs = [measure(everywhere=everywhere) for _ in range(RUNS)]
        best = [min(run[title] for run in runs) for title in titles]
        name = "everywhere" if everywhere else "chosen"
        told = "".join(f"{value:>10.1f}" for value in best)
        print(f"{name:<12}{told}{runs[0]['places']:>10.0f}")


if __name__ == "__main__":
    main()
