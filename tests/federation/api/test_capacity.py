"""Compact reports over a real stream, and the lists of devices and pools."""

from dataclasses import replace

import grpc

from federation.app import ControlPlane
from federation.contract.capacity import Capacity, Device, DeviceUse, Pool
from federation.contract.codec_deltas import CapacityWriter
from federation.contract.v1 import federation_pb2 as pb
from tests.fakes.control_plane import Operator, Peer, agent_hello, agent_report, stream

DEVICE = Device(id="g", vendor="nvidia", product="H100", memory_mib=80_000, node="n")
POOL = Pool(node="n", resource="gpu", vendor="nvidia", total=8, allocatable=8, free=3)
CAPACITY = Capacity(devices=(DEVICE,), pools=(POOL,))


async def tell(agent: Peer, epoch: int, sequence: int, compact: pb.CompactCapacity) -> None:
    message = agent_report("a", epoch, sequence)
    message.report.ClearField("capacity")
    message.report.compact.CopyFrom(compact)
    await agent.send(message)


async def test_devices_and_pools_are_listed_with_what_they_do(
    api: Operator, plane: ControlPlane
) -> None:
    writer = CapacityWriter()
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.send(agent_hello("a"))
        welcome = await agent.expect("welcome")
        assert welcome.compact_reports
        await tell(agent, welcome.epoch, 1, writer.write(1, CAPACITY))
        await agent.expect("lease_renewed")
        commits = plane.loop.commits_total
        for sequence in (2, 3):
            busy = replace(DEVICE, use=DeviceUse(utilization=sequence / 10))
            free = (replace(POOL, free=sequence),)
            now = replace(CAPACITY, devices=(busy,), pools=free)
            await tell(agent, welcome.epoch, sequence, writer.write(sequence, now))
            await agent.expect("lease_renewed")
        assert plane.loop.commits_total == commits
        (device,) = (await api.call("GET", "/api/v1/devices?cluster=a")).json["items"]
        assert (device["id"], device["utilization"], device["node"]) == ("g", 0.3, "n")
        (pool,) = (await api.call("GET", "/api/v1/pools?region=eu-west")).json["items"]
        assert (pool["free"], pool["allocatable"]) == (3, 8)
        assert (await api.call("GET", "/api/v1/pools?cluster=b")).json["items"] == []


async def test_a_report_without_its_base_is_answered_and_changes_no_capacity(
    api: Operator, plane: ControlPlane
) -> None:
    writer = CapacityWriter()
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.send(agent_hello("a"))
        epoch = (await agent.expect("welcome")).epoch
        await tell(agent, epoch, 1, writer.write(1, CAPACITY))
        await agent.expect("lease_renewed")
        lost = writer.write(2, CAPACITY)
        lost.base = 77
        await tell(agent, epoch, 2, lost)
        assert (await agent.expect("capacity_wanted")).base == 77
        assert (await agent.expect("lease_renewed")).sequence == 2
        status = (await api.call("GET", "/api/v1/clusters/a")).json["status"]
        assert status["capacity"]["units"]["free"] == 3


async def test_nonsense_is_refused_with_a_sentence(api: Operator, plane: ControlPlane) -> None:
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.send(agent_hello("a"))
        epoch = (await agent.expect("welcome")).epoch
        long = replace(CAPACITY, devices=(replace(DEVICE, node="x" * 600),))
        await tell(agent, epoch, 1, CapacityWriter().write(1, long))
        code, told = await agent.refusal()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "longer than 512 characters" in told
