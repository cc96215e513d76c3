"""Beside assignments an agent hears how to fetch and with whom; what it tells of it is bounded."""

import asyncio

import grpc
import pytest

from federation.app import ControlPlane
from federation.contract import codec_sync
from federation.contract.sync import Day, SyncSpec, SyncWindow
from federation.contract.types import ObservedVersion, VersionState
from federation.contract.v1 import federation_pb2 as pb
from tests.fakes.control_plane import Operator, agent_hello, agent_report, stream


async def test_settings_come_before_the_assignment_and_at_each_change(
    api: Operator, plane: ControlPlane
) -> None:
    held = await api.member("a")
    spec = {"region": "eu-west", "sync": {"max_mbytes_per_second": 20, "time_zone": "UTC"}}
    assert (await api.put("Cluster", "a", spec)).status == 200
    async with stream(plane, "agent", held) as agent:
        await agent.send(agent_hello("a"))
        order = []
        while "assignment" not in order:
            message = await asyncio.wait_for(agent.call.read(), 5)
            order.append(message.WhichOneof("body"))
        assert order.index("sync") < order.index("assignment")
        window = {"start": "22:00", "end": "06:00", "days": ["mon"]}
        spec["sync"] = {"windows": [window], "time_zone": "Europe/Dublin"}
        assert (await api.put("Cluster", "a", spec)).status == 200
        told = codec_sync.settings_from_proto(await agent.expect("sync"))
        night = SyncWindow(start="22:00", end="06:00", days=(Day.MON,))
        assert told == SyncSpec(windows=(night,), time_zone="Europe/Dublin")


@pytest.mark.parametrize(
    "sync",
    [
        {"max_mbytes_per_second": -1},
        {"time_zone": "Europe/Nowhere"},
        {"windows": [{"start": "22:00", "end": "25:00"}]},
        {"windows": [{"start": "22:00", "end": "06:00", "days": ["monday"]}]},
        {"bandwidth": 3},
    ],
)
async def test_settings_that_make_no_sense_are_refused(
    api: Operator, sync: dict[str, object]
) -> None:
    await api.register("a")
    answer = await api.put("Cluster", "a", {"region": "eu-west", "sync": sync})
    assert answer.status == 400


async def test_members_of_a_region_hear_of_each_other(api: Operator, plane: ControlPlane) -> None:
    one, other = await api.member("a"), await api.member("b")
    async with stream(plane, "agent", one) as a, stream(plane, "agent", other) as b:
        await a.send(agent_hello("a"))
        await b.send(agent_hello("b"))
        async with asyncio.timeout(10):
            told: list[str] = []
            while told != ["a", "b"]:
                peers = codec_sync.peers_from_proto(await a.expect("peers"))
                told = [peer.cluster for peer in peers]
            digest = (await api.push("m")).json["digest"]
            epoch = plane.loop.state.clusters["b"].epoch
            await b.send(agent_report("b", epoch, 1))
            await api.put("Deployment", "d", {"model": "m"})
            has: dict[str, tuple[str, ...]] = {}
            while digest not in has.get("b", ()):
                peers = codec_sync.peers_from_proto(await a.expect("peers"))
                has = {peer.cluster: peer.digests for peer in peers}


async def test_numbers_that_make_no_sense_end_no_stream(api: Operator, plane: ControlPlane) -> None:
    held = await api.member("a")
    wild = pb.SyncProgress(
        total_bytes=10,
        done_bytes=2**62,
        from_origin_bytes=2**62,
        bytes_per_second=float("nan"),
        eta_s=float("inf"),
        waiting="x" * 200,
    )
    async with stream(plane, "agent", held) as agent:
        await agent.send(agent_hello("a"))
        epoch = (await agent.expect("welcome")).epoch
        version = ObservedVersion(model="m", version=1, digest="d", state=VersionState.PENDING)
        message = agent_report("a", epoch, 1, versions=(version,))
        message.report.observed.versions[0].sync.CopyFrom(wild)
        message.report.disk.CopyFrom(pb.Disk(used_bytes=2**62, free_bytes=5))
        await agent.send(message)
        await agent.expect("lease_renewed")
        (row,) = (await api.call("GET", "/api/v1/sync")).json["items"]
        assert (row["done_bytes"], row["total_bytes"]) == (10, 10)
        assert (row["eta_s"], row["bytes_per_second"]) == (0, 0)
        cluster = await api.call("GET", "/api/v1/clusters/a")
        assert cluster.json["status"]["disk"]["used_bytes"] == 1 << 60
        message = agent_report("a", epoch, 2, versions=(version,))
        message.report.observed.versions[0].sync.waiting = "x" * 100_000
        await agent.send(message)
        code, _ = await agent.refusal()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
