import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest

from federation.app import ControlPlane
from federation.contract import codec_trust
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.types import ObservedVersion, VersionState
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.runtime.channel import connect
from federation.trust.credentials import Credentials
from tests.fakes.control_plane import (
    Operator,
    Peer,
    agent_hello,
    agent_report,
    operator,
    router_hello,
    running,
    stream,
)
from tests.pki import issue_into, make_authority


async def status(api: Operator, cluster: str = "a") -> dict[str, object]:
    answer = await api.call("GET", f"/api/v1/clusters/{cluster}")
    found: dict[str, object] = answer.json["status"]
    return found


async def joined(agent: Peer) -> int:
    """Say hello as cluster a, wait for welcome and assignment, return the epoch."""
    await agent.send(agent_hello("a"))
    epoch: int = (await agent.expect("welcome")).epoch
    await agent.expect("assignment")
    return epoch


async def test_an_agent_joins_reports_and_keeps_its_lease(
    api: Operator, plane: ControlPlane
) -> None:
    held = await api.member("a")
    async with stream(plane, "agent", held) as agent:
        await agent.send(agent_hello("a"))
        welcome = await agent.expect("welcome")
        assert (welcome.lease_seconds, welcome.report_interval_ms) == (10, 1000)
        assert (await agent.expect("assignment")).cluster == "a"
        await agent.send(agent_report("a", welcome.epoch, 1, gpus=3))
        renewed = await agent.expect("lease_renewed")
        assert (renewed.epoch, renewed.sequence) == (welcome.epoch, 1)
        seen = await status(api)
        assert (seen["ready"], seen["gpus"], seen["joined"]) == (True, 3, True)
    async with stream(plane, "agent", held) as agent:
        await agent.send(agent_hello("a", instance="i-2"))
        again = await agent.expect("welcome")
        assert again.epoch > welcome.epoch


async def test_a_stale_report_changes_nothing_and_renews_nothing(
    api: Operator, plane: ControlPlane
) -> None:
    async with stream(plane, "agent", await api.member("a")) as agent:
        epoch = await joined(agent)
        await agent.send(agent_report("a", epoch, 5, gpus=1))
        await agent.expect("lease_renewed")
        await agent.send(agent_report("a", epoch, 4, gpus=9))
        await agent.send(agent_report("a", epoch - 1, 6, gpus=9))
        await agent.send(agent_report("a", epoch, 6, gpus=2))
        assert (await agent.expect("lease_renewed")).sequence == 6
        assert (await status(api))["gpus"] == 2


async def test_a_new_assignment_reaches_the_agent(api: Operator, plane: ControlPlane) -> None:
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.send(agent_hello("a"))
        epoch = (await agent.expect("welcome")).epoch
        first = await agent.expect("assignment")
        assert list(first.versions) == []
        await agent.send(agent_report("a", epoch, 1))
        await agent.expect("lease_renewed")
        pushed = (await api.push("m")).json
        applied = await api.put("Deployment", "m", {"model": "m"})
        assert applied.status == 201, applied.body
        second = await agent.expect("assignment")
        assert second.generation > first.generation
        assert [(v.model, v.version, v.digest) for v in second.versions] == [
            ("m", 1, pushed["digest"])
        ]
        warm = ObservedVersion(
            model="m", version=1, digest=pushed["digest"], state=VersionState.WARMED, replicas=1
        )
        await agent.send(
            agent_report("a", epoch, 2, generation=second.generation, versions=(warm,))
        )
        await agent.expect("lease_renewed")
        assert [r.cluster for r in plane.publisher.snapshot.replicas] == ["a"]


async def test_the_newest_stream_of_a_cluster_wins(api: Operator, plane: ControlPlane) -> None:
    held = await api.member("a")
    async with stream(plane, "agent", held) as old:
        await old.send(agent_hello("a"))
        await old.expect("assignment")
        async with stream(plane, "agent", held) as new:
            await new.send(agent_hello("a", instance="i-2"))
            epoch = (await new.expect("welcome")).epoch
            code, _ = await old.refusal()
            assert code is grpc.StatusCode.ABORTED
            await new.send(agent_report("a", epoch, 1))
            assert (await new.expect("lease_renewed")).epoch == epoch
        assert (await status(api))["joined"] is True


async def test_the_end_of_a_stream_is_noticed(api: Operator, plane: ControlPlane) -> None:
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.send(agent_hello("a"))
        await agent.expect("assignment")
        assert plane.loop.state.presences["a"].connected
    async with asyncio.timeout(5):
        while plane.loop.state.presences["a"].connected:
            await asyncio.sleep(0.01)


async def test_an_agent_that_ends_its_stream_politely_gets_ok(
    api: Operator, plane: ControlPlane
) -> None:
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.send(agent_hello("a"))
        await agent.expect("assignment")
        await agent.call.done_writing()
        assert (await agent.refusal())[0] is grpc.StatusCode.OK


async def test_a_certificate_of_one_cluster_does_not_speak_for_another(
    api: Operator, plane: ControlPlane
) -> None:
    await api.member("b")
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.send(agent_hello("b"))
        code, told = await agent.refusal()
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "belongs to cluster 'a', not to 'b'" in told
    assert "b" not in plane.loop.state.presences


async def test_a_router_is_no_agent(api: Operator, plane: ControlPlane) -> None:
    await api.register("a")
    async with stream(plane, "agent", await api.member("a", PeerRole.ROUTER)) as agent:
        await agent.send(agent_hello("a"))
        code, told = await agent.refusal()
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "is no cluster" in told


async def test_strangers_do_not_get_past_the_handshake(
    api: Operator, plane: ControlPlane, tmp_path: Path
) -> None:
    """A certificate of another authority that names a cluster of ours, and no certificate."""
    held = await api.member("a")
    _, trust = held.require()
    other = make_authority(tmp_path / "other", trust_domain=trust.trust_domain)
    stranger = Credentials(None)
    stranger.keep_trust(trust)
    issue_into(stranger, other, PeerId(trust.trust_domain, PeerRole.CLUSTER, "a"))
    nameless = grpc.ssl_channel_credentials(root_certificates=trust.bundle.encode())
    for credentials in (stranger.channel_credentials(), nameless):
        async with connect(plane.grpc_address, credentials, "localhost") as channel:
            call = rpc.AgentServiceStub(channel).Connect(iter([agent_hello("a")]), timeout=10)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert plane.loop.state.presences == {}


async def test_an_agent_must_be_reached_the_way_that_was_registered(
    api: Operator, plane: ControlPlane
) -> None:
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.send(agent_hello("a", connectivity=pb.CONNECTIVITY_REVERSE))
        code, told = await agent.refusal()
    assert code is grpc.StatusCode.ABORTED
    assert "--connectivity dial" in told


async def test_trust_and_routers_come_first_and_at_each_change(
    api: Operator, plane: ControlPlane
) -> None:
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.send(agent_hello("a"))
        first = codec_trust.trust_from_proto(await agent.expect("trust"))
        assert first == plane.publisher.trust.newest
        router = await api.member("r", PeerRole.ROUTER)
        async with stream(plane, "router", router) as watcher:
            await watcher.send(router_hello("r", reverse="192.0.2.1:7402"))
            while not (told := (await agent.expect("routers")).routers):
                pass
        assert [(r.name, r.reverse_address) for r in told] == [("r", "192.0.2.1:7402")]
        await api.call("POST", "/api/v1/routers/r/revoke")
        newer = codec_trust.trust_from_proto(await agent.expect("trust"))
        assert newer.version > first.version
        facts = router.require()[0].facts
        assert newer.refuses(facts.id.uri, facts.generation)
        assert list((await agent.expect("routers")).routers) == []


async def test_the_stream_of_a_revoked_cluster_ends_at_once(
    api: Operator, plane: ControlPlane
) -> None:
    held = await api.member("a")
    async with stream(plane, "agent", held) as agent:
        await joined(agent)
        began = time.monotonic()
        answer = await api.call("POST", "/api/v1/clusters/a/revoke")
        assert answer.json["status"]["revoked"] is True
        code, told = await agent.refusal()
        assert time.monotonic() - began < 5
    assert (code, "revoked" in told) == (grpc.StatusCode.UNAUTHENTICATED, True)
    assert plane.loop.state.presences == {}
    async with stream(plane, "agent", held) as agent:
        await agent.send(agent_hello("a"))
        assert (await agent.refusal())[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_a_stream_ends_when_its_certificate_does(tmp_path: Path) -> None:
    async with (
        running(tmp_path, leaf_seconds=2) as plane,
        operator(plane) as api,
        stream(plane, "agent", await api.member("a")) as agent,
    ):
        await joined(agent)
        code, told = await agent.refusal()
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "expired" in told


async def test_an_agent_that_joined_anew_leaves_its_predecessor_outside(
    api: Operator, plane: ControlPlane
) -> None:
    old = await api.member("a")
    async with stream(plane, "agent", old) as agent:
        await joined(agent)
        body = {"spec": {"region": "eu-west"}, "rejoin": True}
        new = await api.join(await api.join_token("/api/v1/clusters/a/register", body))
        assert (await agent.refusal())[0] is grpc.StatusCode.UNAUTHENTICATED
    async with stream(plane, "agent", new) as agent:
        assert await joined(agent)


def hello(cluster: str = "a", url: str = "", instance: str = "") -> pb.AgentMessage:
    return pb.AgentMessage(hello=pb.AgentHello(cluster=cluster, url=url, instance=instance))


@pytest.mark.parametrize(
    "message",
    [
        pb.AgentMessage(),
        agent_report("a", 1, 1),
        hello(cluster=""),
        hello(cluster="../x"),
        hello(url="file:///etc/passwd"),
        hello(url="http://user:secret@host"),
        hello(instance="x" * 5000),
    ],
)
async def test_a_stream_without_a_sound_hello_is_refused(
    api: Operator, plane: ControlPlane, message: pb.AgentMessage
) -> None:
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.send(message)
        code, told = await agent.refusal()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert told
    assert plane.loop.state.presences == {}


async def test_a_stream_that_says_nothing_is_refused(api: Operator, plane: ControlPlane) -> None:
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.call.done_writing()
        code, told = await agent.refusal()
    assert (code, told) == (grpc.StatusCode.INVALID_ARGUMENT, "the stream ended before a hello.")


def foreign(epoch: int) -> pb.AgentMessage:
    return agent_report("b", epoch, 1)


def from_the_future(epoch: int) -> pb.AgentMessage:
    return agent_report("a", epoch + 1, 1)


def another_hello(_: int) -> pb.AgentMessage:
    return agent_hello("a")


def many_devices(epoch: int) -> pb.AgentMessage:
    message = agent_report("a", epoch, 1)
    message.report.capacity.devices.extend([pb.Device(id="x")] * 10_001)
    return message


def many_versions(epoch: int) -> pb.AgentMessage:
    message = agent_report("a", epoch, 1)
    message.report.observed.versions.extend([pb.ObservedVersion(model="x")] * 10_001)
    return message


def long_name(epoch: int) -> pb.AgentMessage:
    message = agent_report("a", epoch, 1)
    message.report.observed.versions.append(pb.ObservedVersion(model="m" * 5000, version=1))
    return message


def strange_url(epoch: int) -> pb.AgentMessage:
    message = agent_report("a", epoch, 1)
    message.report.url = "http://169.254.169.254/latest/meta-data"
    return message


@pytest.mark.parametrize(
    "hostile",
    [
        foreign,
        from_the_future,
        another_hello,
        many_devices,
        many_versions,
        long_name,
        strange_url,
    ],
)
async def test_a_hostile_message_ends_the_stream_and_changes_nothing(
    api: Operator, plane: ControlPlane, hostile: Callable[[int], pb.AgentMessage]
) -> None:
    await api.register("b")
    async with stream(plane, "agent", await api.member("a")) as agent:
        await agent.send(hostile(await joined(agent)))
        code, told = await agent.refusal()
    denied, invalid = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT
    assert code is (denied if hostile is foreign else invalid)
    assert told
    assert (await status(api))["gpus"] == 0
    assert (await status(api, "b"))["last_report_s"] is None


async def test_a_message_of_a_newer_agent_is_ignored(api: Operator, plane: ControlPlane) -> None:
    async with stream(plane, "agent", await api.member("a")) as agent:
        epoch = await joined(agent)
        await agent.send(pb.AgentMessage.FromString(b"\xfa\x01\x01x"))  # field 31
        await agent.send(agent_report("a", epoch, 1))
        await agent.expect("lease_renewed")


async def test_a_joined_agent_is_known_after_a_restart(tmp_path: Path) -> None:
    async with (
        running(tmp_path, store="sqlite") as plane,
        operator(plane) as api,
    ):
        held = await api.member("a")
        async with stream(plane, "agent", held) as agent:
            before = await joined(agent)
    async with (
        running(tmp_path, store="sqlite") as plane,
        stream(plane, "agent", held) as agent,
    ):
        assert await joined(agent) > before
