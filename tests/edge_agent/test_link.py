"""The link against a real gRPC server, over real mutual TLS."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.identity import Identity
from edge_agent.policy.session import LinkState
from federation.contract import codec, codec_sync, codec_trust
from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    Unauthenticated,
)
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.sync import Disk, SyncPeer, SyncProgress, SyncSpec, SyncWindow
from federation.contract.trust import Revocation, RouterAddress
from federation.contract.types import (
    ObservedVersion,
    VersionState,
)
from federation.contract.v1 import federation_pb2 as pb
from federation.identity.authority import Authority
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from federation.trust.enrolment import Enrolment
from federation.trust.renewal import Membership
from tests.edge_agent.link_rig import Agent, ControlPlane, make_link, stopped, until
from tests.fakes.enrolling import QUICK as QUICK_RENEWAL
from tests.fakes.enrolling import EnrollingPlane
from tests.pki import TRUST_DOMAIN, credentials_for, issue_into, make_authority, trust_of


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
async def plane(authority: Authority) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(authority)
    await plane.start()
    yield plane
    await plane.stop()


@pytest.fixture
async def agent(plane: ControlPlane) -> AsyncIterator[Agent]:
    agent = Agent(plane, credentials_for(plane.authority, PeerRole.CLUSTER, "c"))
    agent.task = asyncio.get_running_loop().create_task(agent.link.run())
    yield agent
    assert not agent.task.done()
    await stopped(agent.task)


async def test_it_shows_its_certificate_and_comes_back_after_an_outage(
    plane: ControlPlane, agent: Agent
) -> None:
    await until(lambda: plane.reports)
    assert agent.link.joined
    assert plane.peers[0].id == PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "c")
    hello = plane.hellos[0]
    assert (hello.cluster, hello.url) == ("c", "https://gateway:1")
    assert hello.connectivity == pb.CONNECTIVITY_DIAL
    assert hello.engine == pb.ENGINE_KIND_TRITON
    assert (plane.reports[0].epoch, plane.reports[0].sequence) == (1, 1)
    await plane.stop()
    await until(lambda: not agent.link.joined)
    await plane.start()
    await until(lambda: len(plane.hellos) == 2)
    assert plane.hellos[1].instance == hello.instance
    await until(lambda: plane.reports[-1].epoch == 2)


async def test_reports_flow_by_interval_and_at_once_on_change(
    plane: ControlPlane, agent: Agent
) -> None:
    await until(lambda: len(plane.reports) >= 3)
    sequences = [report.sequence for report in plane.reports]
    assert sequences == list(range(1, len(sequences) + 1))
    assert plane.reports[0].capacity.devices[0].id == "g"
    warm = ObservedVersion(model="m", version=1, digest="d", state=VersionState.WARMED)
    agent.versions = (warm,)
    agent.link.notify()
    await until(lambda: plane.reports[-1].observed.versions)


async def test_a_notice_without_a_change_sends_nothing(plane: ControlPlane, agent: Agent) -> None:
    await until(lambda: plane.reports)
    started, before = asyncio.get_running_loop().time(), len(plane.reports)
    while asyncio.get_running_loop().time() - started < 0.5:
        agent.link.notify()
        await asyncio.sleep(0.001)
    assert len(plane.reports) - before <= 4


async def test_assignments_are_handed_on_and_the_first_is_marked(
    plane: ControlPlane, agent: Agent
) -> None:
    for generation in (5, 6):
        assignment = pb.Assignment(cluster="c", generation=generation)
        plane.outbox.put_nowait(pb.AgentInstruction(assignment=assignment))
        plane.outbox.put_nowait(pb.AgentInstruction())  # of a newer peer
    await until(lambda: len(agent.assignments) == 2)
    assert [(a.generation, fresh) for a, fresh in agent.assignments] == [(5, True), (6, False)]


async def test_a_refusal_is_told_once_with_its_remedy_and_tried_again(
    plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    plane.refusal = AlreadyExists("cluster 'c' is dialled.", hint="Register it as reverse.")
    agent = Agent(plane, credentials_for(plane.authority, PeerRole.CLUSTER, "c"))
    task = asyncio.get_running_loop().create_task(agent.link.run())
    await until(lambda: len(plane.peers) >= 3)
    await until(lambda: agent.link.session.state is LinkState.REFUSED)
    assert agent.link.session.reason == "cluster 'c' is dialled. Register it as reverse."
    assert len([r for r in caplog.records if "as reverse" in r.getMessage()]) == 1
    plane.refusal = None
    await until(lambda: agent.link.joined)
    await stopped(task)


async def test_a_refused_certificate_is_doubted(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane.refusal = Unauthenticated("the certificate is revoked.")
    agent = Agent(plane, credentials_for(plane.authority, PeerRole.CLUSTER, "c"))
    doubts: list[int] = []
    monkeypatch.setattr(agent.identity.membership, "doubted", lambda: doubts.append(1))
    task = asyncio.get_running_loop().create_task(agent.link.run())
    await until(lambda: doubts)
    assert agent.link.session.state is LinkState.REFUSED
    await stopped(task)


async def test_nothing_is_dialled_before_there_is_a_certificate(plane: ControlPlane) -> None:
    agent = Agent(plane, Credentials(None))
    task = asyncio.get_running_loop().create_task(agent.link.run())
    await asyncio.sleep(0.1)
    assert agent.link.session.state is LinkState.DISCONNECTED
    peer = PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "c")
    agent.identity.credentials.keep_trust(trust_of(plane.authority))
    issue_into(agent.identity.credentials, plane.authority, peer)
    await until(lambda: agent.link.joined)
    await stopped(task)


async def test_an_expired_certificate_is_not_shown_and_a_new_one_at_once(
    plane: ControlPlane,
) -> None:
    expired = credentials_for(plane.authority, PeerRole.CLUSTER, "c", life=timedelta(seconds=-1))
    agent = Agent(plane, expired)
    task = asyncio.get_running_loop().create_task(agent.link.run())
    await until(lambda: "expired" in agent.link.session.reason)
    assert plane.peers == []
    issue_into(expired, plane.authority, PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "c"))
    await until(lambda: agent.link.joined)
    await stopped(task)


async def test_another_authority_is_no_control_plane_of_ours(
    plane: ControlPlane, tmp_path: Path
) -> None:
    other = credentials_for(make_authority(tmp_path / "other"), PeerRole.CLUSTER, "c")
    agent = Agent(plane, other)
    task = asyncio.get_running_loop().create_task(agent.link.run())
    await until(lambda: "does not prove to be our control plane" in agent.link.session.reason)
    await stopped(task)


async def test_trust_and_routers_are_handed_on(plane: ControlPlane, agent: Agent) -> None:
    await until(lambda: agent.link.joined)
    gone = Revocation(uri=f"spiffe://{TRUST_DOMAIN}/router/r9", below=3)
    trust = trust_of(plane.authority, 5, revoked=(gone,))
    plane.outbox.put_nowait(pb.AgentInstruction(trust=codec_trust.trust_to_proto(trust)))
    routers = (RouterAddress(name="r1", reverse_address="r1:7402"),)
    plane.outbox.put_nowait(pb.AgentInstruction(routers=codec_trust.routers_to_proto(routers)))
    await until(lambda: agent.routers)
    assert agent.identity.credentials.trust == trust
    assert agent.routers == [routers]
    assert len(plane.hellos) == 1, "a new trust moves no stream"


async def test_how_to_fetch_and_with_whom_are_handed_on(plane: ControlPlane, agent: Agent) -> None:
    await until(lambda: agent.link.joined)
    spec = SyncSpec(max_mbytes_per_second=2, windows=(SyncWindow(start="22:00", end="06:00"),))
    plane.outbox.put_nowait(pb.AgentInstruction(sync=codec_sync.settings_to_proto(spec)))
    peers = (SyncPeer(cluster="d", url="https://d:1", digests=("x",)),)
    plane.outbox.put_nowait(pb.AgentInstruction(peers=codec_sync.peers_to_proto(peers)))
    await until(lambda: agent.peers)
    assert (agent.settings, agent.peers) == ([spec], [peers])


async def test_a_report_tells_of_the_disk_and_of_transfers(
    plane: ControlPlane, agent: Agent
) -> None:
    progress = SyncProgress(total_bytes=10, done_bytes=4, from_peers_bytes=4)
    agent.disk = Disk(used_bytes=4, free_bytes=6, budget_bytes=9)
    agent.versions = (
        ObservedVersion(
            model="m", version=1, digest="d", state=VersionState.PENDING, sync=progress
        ),
    )
    await until(lambda: plane.reports and plane.reports[-1].observed.versions)
    report = codec.report_from_proto(plane.reports[-1])
    assert report.disk == agent.disk
    assert report.observed.versions[0].sync == progress


async def test_a_trust_that_cannot_be_ours_is_not_kept(plane: ControlPlane, agent: Agent) -> None:
    await until(lambda: agent.link.joined)
    before = agent.identity.credentials.trust
    for wrong in (pb.Trust(version=9, trust_domain="evil"), pb.Trust(version=9)):
        plane.outbox.put_nowait(pb.AgentInstruction(trust=wrong))
    plane.outbox.put_nowait(pb.AgentInstruction(routers=pb.RouterAddresses()))
    await until(lambda: agent.routers)
    assert agent.identity.credentials.trust is before


async def test_a_renewal_moves_the_stream_before_it_leaves_the_old_one(
    plane: ControlPlane, agent: Agent
) -> None:
    await until(lambda: plane.reports)
    peer = PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "c")
    for round in range(2, 6):
        issue_into(agent.identity.credentials, plane.authority, peer)
        await until(lambda: plane.reports[-1].epoch == round)  # noqa: B023
        assert agent.link.joined
    await until(lambda: plane.ended == [1, 2, 3, 4])
    assert agent.link.session.epoch == 5
    assert len(plane.peers) == 5


async def test_a_move_that_fails_leaves_the_older_stream(
    plane: ControlPlane, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.link.MOVE_RETRY_S", 0.05)
    await until(lambda: plane.reports)
    plane.refusal = Unauthenticated("not now.")
    issue_into(
        agent.identity.credentials,
        plane.authority,
        PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "c"),
    )
    await until(lambda: len(plane.peers) >= 3)
    seen = len(plane.reports)
    await until(lambda: len(plane.reports) > seen)
    assert agent.link.joined
    assert agent.link.session.epoch == 1
    plane.refusal = None
    await until(lambda: agent.link.session.epoch == 2)


async def test_renewals_of_two_seconds_lose_no_report(
    plane: ControlPlane, authority: Authority, tmp_path: Path
) -> None:
    doors = EnrollingPlane(authority, life=timedelta(seconds=2))
    await doors.start()
    (tmp_path / "token").write_text(doors.admit(PeerRole.CLUSTER, "c"))
    credentials = Credentials(tmp_path / "identity")
    agent = Agent(plane, credentials)
    contact = doors.contact(tmp_path / "token")
    enrolment = Enrolment(credentials, contact, role=PeerRole.CLUSTER, name="c")
    membership = Membership(
        enrolment, clock=SystemClock(), dice=random.Random(2), patience=QUICK_RENEWAL
    )
    identity = Identity(credentials=credentials, membership=membership)
    link = make_link(plane.port, identity, agent)
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(membership.run()), loop.create_task(link.run())]
    await until(lambda: link.joined)
    worst_s, last_s, count = 0.0, loop.time(), len(plane.reports)
    async with asyncio.timeout(40):
        while membership.renewals < 8 or link.session.epoch < 9:
            await asyncio.sleep(0.01)
            assert link.joined, link.session.reason
            if len(plane.reports) > count:
                worst_s = max(worst_s, loop.time() - last_s)
                last_s, count = loop.time(), len(plane.reports)
    for task in tasks:
        await stopped(task)
    await doors.stop()
    assert worst_s < 2.0, "the lease has no gap"
    assert link.welcomes == 9
    last: tuple[int, int] = (0, 0)
    for report in plane.reports:
        if (now := (report.epoch, report.sequence)) > last:
            assert now == (last[0], last[1] + 1) or now == (last[0] + 1, 1)
            last = now


async def test_an_agent_that_was_replaced_does_not_fight_back_at_once(
    plane: ControlPlane, agent: Agent
) -> None:
    await until(lambda: agent.link.joined)
    plane.outbox.put_nowait(Conflict("a newer agent took over."))
    await until(lambda: agent.link.session.state is LinkState.REFUSED)
    assert agent.link.session.reason == "a newer agent took over."
    await until(lambda: agent.link.joined)


async def test_a_peer_that_does_not_welcome_is_refused(plane: ControlPlane) -> None:
    plane.first = pb.AgentInstruction(assignment=pb.Assignment(cluster="c"))
    agent = Agent(plane, credentials_for(plane.authority, PeerRole.CLUSTER, "c"))
    task = asyncio.get_running_loop().create_task(agent.link.run())
    await until(lambda: "no control plane of ours" in agent.link.session.reason)
    assert agent.assignments == []
    await stopped(task)


async def test_nobody_there_is_only_a_wait(plane: ControlPlane, unused_tcp_port: int) -> None:
    plane.port = unused_tcp_port
    agent = Agent(plane, credentials_for(plane.authority, PeerRole.CLUSTER, "c"))
    task = asyncio.get_running_loop().create_task(agent.link.run())
    await until(lambda: agent.link.session.reason == "the control plane does not answer.")
    assert agent.link.session.state is not LinkState.JOINED
    await stopped(task)


async def test_a_capacity_is_told_whole_once_and_again_when_it_changed_or_is_wanted(
    plane: ControlPlane, agent: Agent
) -> None:
    plane.compact = True
    await plane.stop()  # the next stream is one with compact reports
    await plane.start()
    await until(lambda: any(report.HasField("compact") for report in plane.reports))
    await until(lambda: plane.reports[-1].compact.base)
    reports = [report for report in plane.reports if report.HasField("compact")]
    assert [report.compact.base for report in reports[:2]] == [0, reports[0].sequence]
    assert not any(report.HasField("capacity") for report in reports)
    agent.device = replace(agent.device, healthy=False, reason="XID 79")
    agent.link.notify()
    await until(lambda: _sick(plane.reports[-1]))
    await until(lambda: plane.reports[-1].compact.base)
    whole = sum(report.compact.base == 0 for report in plane.reports)
    plane.outbox.put_nowait(pb.AgentInstruction(capacity_wanted=pb.CapacityWanted(base=1)))
    await until(lambda: sum(r.compact.base == 0 for r in plane.reports) > whole)
    agent.link.notify()
    await plane.stop()
    await until(lambda: not agent.link.joined)
    begun = len(plane.reports)
    await plane.start()
    await until(lambda: len(plane.reports) > begun)
    assert plane.reports[begun].compact.base == 0  # nothing of an earlier stream is leant on


def _sick(report: pb.Report) -> bool:
    return any(kind.unhealthy for kind in report.compact.devices.kinds)
