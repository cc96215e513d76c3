from dataclasses import replace
from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from federation.app import ControlPlane
from federation.contract.spiffe import PeerRole
from federation.contract.sync import Disk, SyncProgress
from federation.contract.types import ObservedVersion, VersionState
from tests.fakes.control_plane import Operator, agent_hello, agent_report, router_hello, stream


async def scrape(api: Operator) -> dict[str, float]:
    answer = await api.call("GET", "/metrics", headers={"Authorization": ""})
    assert answer.status == 200
    found = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


async def test_the_numbers_of_a_federation_at_work(api: Operator, plane: ControlPlane) -> None:
    await api.register("never")
    held = await api.member("a")
    routers_own = await api.member("r", PeerRole.ROUTER)
    async with (
        stream(plane, "agent", held) as agent,
        stream(plane, "router", routers_own) as router,
    ):
        await agent.send(agent_hello("a"))
        epoch = (await agent.expect("welcome")).epoch
        fetched = SyncProgress(
            total_bytes=100,
            done_bytes=40,
            from_origin_bytes=30,
            from_peers_bytes=10,
            bytes_per_second=5,
        )
        versions = tuple(
            ObservedVersion(
                model="m", version=n, digest="d", state=VersionState.PENDING, sync=fetched
            )
            for n in (1, 2)
        )
        disk = Disk(used_bytes=40, free_bytes=60)
        await agent.send(agent_report("a", epoch, 1, gpus=3, versions=versions, disk=disk))
        await agent.expect("lease_renewed")
        await router.send(router_hello("r"))
        await router.expect("snapshot")
        await api.put("Region", "BAD", {"location": {"latitude": 0, "longitude": 0}})
        await api.call("GET", "/api/v1/regions", headers={"Authorization": ""})
        numbers = await scrape(api)
    assert numbers["fed_control_plane_denied_total{reason=unauthenticated}"] == 1
    assert numbers["fed_control_plane_connected_agents{}"] == 1
    assert numbers["fed_control_plane_connected_routers{}"] == 1
    assert numbers["fed_control_plane_snapshot_version{}"] > 1 << 32
    assert numbers["fed_control_plane_events_total{event=ClusterRegistered}"] == 2
    assert numbers["fed_control_plane_refused_total{reason=invalid}"] == 1
    assert numbers["fed_control_plane_commits_total{}"] > 2
    assert numbers["fed_control_plane_task_restarts_total{task=control-loop}"] == 0
    assert numbers["fed_control_plane_task_restarts_total{task=store-care}"] == 0
    assert numbers["fed_control_plane_store_collections_total{outcome=done}"] == 0
    assert numbers["fed_control_plane_store_freed_bytes_total{}"] == 0
    assert "fed_control_plane_store_collected_timestamp_seconds{}" not in numbers  # not yet
    assert numbers["fed_clusters{state=present}"] == 1
    assert numbers["fed_clusters{state=never-joined}"] == 1
    assert numbers["fed_cluster_gpus{cluster=a,state=healthy}"] == 3
    assert numbers["fed_cluster_synced_bytes{cluster=a,source=origin}"] == 60
    assert numbers["fed_cluster_synced_bytes{cluster=a,source=peers}"] == 20
    assert numbers["fed_cluster_synced_bytes{cluster=a,source=reused}"] == 0
    assert numbers["fed_cluster_transfers_running{cluster=a}"] == 2
    assert numbers["fed_cluster_versions_behind{cluster=a}"] == 0  # nobody assigned them
    assert numbers["fed_cluster_versions_behind{cluster=never}"] == 0
    assert numbers["fed_cluster_disk_room_bytes{cluster=a}"] == 100
    assert "fed_cluster_disk_room_bytes{cluster=never}" not in numbers
    assert 0 <= numbers["fed_cluster_report_age_seconds{cluster=a}"] < 10
    assert any(name.startswith("fed_build_info{version=") for name in numbers)


async def test_two_control_planes_have_numbers_of_their_own(
    api: Operator, plane: ControlPlane
) -> None:
    await api.register("a")
    assert (await scrape(api))["fed_clusters{state=never-joined}"] == 1
    assert plane.loop.events_total["ClusterRegistered"] == 1


async def test_what_sleeps_is_counted(api: Operator, plane: ControlPlane) -> None:
    await api.push("m", b"weights")
    scaling = {"mode": "auto", "min": 0, "max": 2}
    answer = await api.put("Deployment", "d", {"model": "m", "scaling": scaling})
    assert answer.status in (200, 201)
    assert (await scrape(api))["fed_deployment_asleep{deployment=d}"] == 0
    record = plane.loop.state.deployments["d"]
    asleep = replace(record, asleep_since=datetime.now(UTC))
    plane.loop.state.deployments["d"] = asleep
    plane.loop.state.wakes["d"] = 2
    numbers = await scrape(api)
    assert numbers["fed_deployment_asleep{deployment=d}"] == 1
    assert numbers["fed_deployment_wake_ups_total{deployment=d}"] == 2
