from federation.app import ControlPlane
from federation.contract.sync import SyncProgress
from federation.contract.types import ObservedVersion, VersionState
from tests.fakes.control_plane import Operator, agent_hello, agent_report, stream


async def test_progress_is_shown_as_soon_as_it_is_reported(
    api: Operator, plane: ControlPlane
) -> None:
    held = await api.member("a")
    digest = (await api.push("m")).json["digest"]
    async with stream(plane, "agent", held) as agent:
        await agent.send(agent_hello("a"))
        epoch = (await agent.expect("welcome")).epoch
        await agent.send(agent_report("a", epoch, 1))
        await agent.expect("lease_renewed")
        await api.put("Deployment", "d", {"model": "m"})
        size = (await api.call("GET", "/api/v1/sync")).json["items"][0]["total_bytes"]
        progress = SyncProgress(
            total_bytes=size, done_bytes=5, from_peers_bytes=5, bytes_per_second=2.5, eta_s=3.0
        )
        version = ObservedVersion(
            model="m", version=1, digest=digest, state=VersionState.PENDING, sync=progress
        )
        await agent.send(agent_report("a", epoch, 2, versions=(version,)))
        await agent.expect("lease_renewed")
        (row,) = (await api.call("GET", "/api/v1/sync?model=m&cluster=a&region=eu-west")).json[
            "items"
        ]
    assert (row["done_bytes"], row["total_bytes"], row["eta_s"]) == (5, size, 3.0)
    assert (row["from_peers_bytes"], row["bytes_per_second"]) == (5, 2.5)
    for nothing in ("model=x", "cluster=b", "region=us"):
        assert (await api.call("GET", f"/api/v1/sync?{nothing}")).json["items"] == []
