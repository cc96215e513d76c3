"""Numbers about capacity, with few labels."""

from dataclasses import replace

from federation.api.metrics_capacity import capacity_families
from federation.contract.capacity import Capacity
from federation.policy.events import AgentReported
from tests.federation.policy.test_capacity_view import POOL, world
from tests.federation.policy.world import World


def samples(seen: World) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in capacity_families(seen.state, seen.now)
        for sample in family.samples
    }


def test_units_use_and_age_of_each_cluster() -> None:
    found = samples(world())
    assert found["fed_cluster_gpus", "c", "healthy"] == 1
    assert found["fed_cluster_gpus", "c", "unhealthy"] == 1
    assert found["fed_cluster_units", "c", "gpu", "free"] == 1
    assert found["fed_cluster_gpu_utilization_ratio", "c"] == 0.5
    assert found["fed_cluster_gpu_memory_used_bytes", "c"] == 40_000 * 2**20
    assert found["fed_cluster_capacity_age_seconds", "c"] == 3
    assert found["fed_cluster_capacity_stale", "c"] == 0


def test_a_cluster_has_few_resources_whatever_it_calls_them() -> None:
    seen = world()
    pools = tuple(replace(POOL, resource=f"x/{n}", total=n, node=f"n{n}") for n in range(1, 40))
    report = replace(seen.make_report("c"), capacity=Capacity(pools=pools))
    assert seen.do(AgentReported(report=report))
    resources = {key[2] for key in samples(seen) if key[0] == "fed_cluster_units"}
    assert resources == {f"x/{n}" for n in range(32, 40)} | {"other"}
    totals = [v for k, v in samples(seen).items() if k[0] == "fed_cluster_units" and "total" in k]
    assert sum(totals) == sum(range(1, 40))
