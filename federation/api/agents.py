"""AgentService: one stream per edge agent; reports up, assignments and lease renewals down.

Input: the streams of the agents; assignments, trust and routers' addresses from the publisher.
Output: AgentConnected, AgentReported and AgentDisconnected for the control loop, which alone
decides; this module only checks that an agent speaks for the cluster of its certificate.
"""

import contextlib
import logging
import operator
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import grpc.aio

from federation.api.doorkeeper import Doorkeeper, check_speaks_for
from federation.api.streams import (
    Outbox,
    check_text,
    check_url,
    first_message,
    heard_before_refused,
    run_until_first,
)
from federation.contract import codec, codec_sync, codec_trust
from federation.contract.capacity import Capacity
from federation.contract.capacity_rules import checked_version
from federation.contract.codec_deltas import CapacityReader, Told
from federation.contract.device_use import UseColumns
from federation.contract.errors import (
    Conflict,
    FederationError,
    Invalid,
    PermissionDenied,
    Unavailable,
)
from federation.contract.names import check_name
from federation.contract.spiffe import PeerRole
from federation.contract.sync import SyncPeer, SyncSpec
from federation.contract.sync_rules import bounded_disk, bounded_progress
from federation.contract.trust import RouterAddress, Trust
from federation.contract.types import Assignment, Connectivity, Report
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.control_loop import ControlLoop
from federation.policy.events import (
    AgentConnected,
    AgentDisconnected,
    AgentReported,
    Welcomed,
)
from federation.policy.records import ClusterRecord
from federation.publisher import Closed, Latest, Publisher
from federation.trust.peers import Peer

log = logging.getLogger(__name__)

MAX_VERSIONS = 10_000

Context = grpc.aio.ServicerContext[pb.AgentMessage, pb.AgentInstruction]
Sender = Outbox[pb.AgentInstruction]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """One accepted stream."""

    cluster: str
    instance: str
    peer: Peer
    welcomed: Welcomed
    outbox: Sender


class AgentService(rpc.AgentServiceServicer):
    """Serves the agents; `connected` counts their streams."""

    def __init__(
        self,
        *,
        loop: ControlLoop,
        publisher: Publisher,
        doorkeeper: Doorkeeper,
        report_interval_ms: int,
    ) -> None:
        self._loop = loop
        self._publisher = publisher
        self._doorkeeper = doorkeeper
        self._report_interval_ms = report_interval_ms
        self.connected = 0

    def __repr__(self) -> str:
        return f"AgentService(connected={self.connected})"

    async def Connect(  # type: ignore[override]  # noqa: N802  # a coroutine that writes; the .proto's name
        self, request_iterator: AsyncIterator[pb.AgentMessage], context: Context
    ) -> None:
        """Serve one stream until either side ends it."""
        try:
            async with heard_before_refused(request_iterator):
                peer = self._doorkeeper.admit(context, PeerRole.CLUSTER)
            hello = _checked_hello(await first_message(request_iterator), peer)
            session = await self._welcome(hello, peer, Outbox(context))
            self.connected += 1
            try:
                await self._converse(session, request_iterator)
            finally:
                self.connected -= 1
                await self._farewell(session)
        except FederationError as error:
            await self._doorkeeper.turn_away(context, "AgentService.Connect", error)

    async def _welcome(self, hello: pb.AgentHello, peer: Peer, outbox: Sender) -> _Session:
        connectivity = codec.connectivity_from_proto(hello.connectivity)
        reverse = connectivity is Connectivity.REVERSE
        welcomed = await self._loop.submit(
            AgentConnected(
                cluster=hello.cluster,
                instance=hello.instance,
                generation=peer.generation,
                engine=codec.engine_from_proto(hello.engine),
                url="" if reverse else check_url("the agent's url", hello.url),
                connectivity=connectivity,
            )
        )
        if not isinstance(welcomed, Welcomed):
            raise Unavailable("the control plane gave no answer to a hello.")
        welcome = pb.Welcome(
            epoch=welcomed.epoch,
            lease_seconds=welcomed.lease_seconds,
            report_interval_ms=self._report_interval_ms,
            allow_code=welcomed.allow_code,
            compact_reports=True,
        )
        await outbox.send(pb.AgentInstruction(welcome=welcome))
        log.info(
            "agent connected",
            extra={
                "cluster": hello.cluster,
                "epoch": welcomed.epoch,
                "agent_version": hello.software_version[:64],
            },
        )
        return _Session(
            cluster=hello.cluster,
            instance=hello.instance,
            peer=peer,
            welcomed=welcomed,
            outbox=outbox,
        )

    async def _converse(self, session: _Session, messages: AsyncIterator[pb.AgentMessage]) -> None:
        cluster, epoch = session.cluster, session.welcomed.epoch
        with (
            self._publisher.agent_subscription(cluster, epoch) as assignments,
            self._publisher.trust.subscription() as trusts,
            self._publisher.router_addresses.subscription() as routers,
            self._publisher.sync_settings.subscription(cluster) as settings,
            self._publisher.sync_peers.subscription(cluster) as peers,
        ):
            spec = self._refuse_if_replaced(session).spec.sync
            # Before any assignment, lest the first transfer begins without its bounds.
            await _send_settings(session.outbox, spec)
            try:
                await run_until_first(
                    self._receive(session, messages),
                    _send_assignments(session, assignments),
                    _send_trust(session.outbox, trusts),
                    _send_routers(session.outbox, routers),
                    _send_new_settings(session.outbox, settings, spec),
                    _send_peers(session.outbox, peers),
                    self._doorkeeper.end_when_expired(session.peer),
                )
            except Closed as closed:
                raise self._doorkeeper.why_closed(session.peer, str(closed)) from None

    def _refuse_if_replaced(self, session: _Session) -> ClusterRecord:
        """A newer stream may have come before this one subscribed: it was told nothing then.

        Returns the cluster's record.
        """
        record = self._loop.state.clusters.get(session.cluster)
        if record is None or record.epoch != session.welcomed.epoch:
            raise Conflict(f"cluster {session.cluster!r} has a newer agent, or was removed.")
        return record

    async def _receive(self, session: _Session, messages: AsyncIterator[pb.AgentMessage]) -> None:
        epoch, reader, url = session.welcomed.epoch, CapacityReader(), ""
        async for message in messages:
            match message.WhichOneof("body"):
                case "report":
                    _check_report(message.report, session.cluster, epoch)
                    if message.report.url != url:
                        url = message.report.url
                        check_url("the agent's url", url)
                    told = reader.read(message.report)
                    if told is None:
                        told = Told(self._last_capacity(session.cluster), UseColumns())
                        wanted = pb.CapacityWanted(base=message.report.compact.base)
                        await session.outbox.send(pb.AgentInstruction(capacity_wanted=wanted))
                    report = _bounded(codec.report_from_proto(message.report, told))
                    accepted = await self._loop.submit(AgentReported(report=report))
                    if accepted:
                        renewed = pb.LeaseRenewed(epoch=epoch, sequence=report.sequence)
                        await session.outbox.send(pb.AgentInstruction(lease_renewed=renewed))
                case "hello":
                    raise Invalid("a second hello on one stream.", hint="Open a new stream.")
                case _:  # a message of a newer agent
                    continue

    def _last_capacity(self, cluster: str) -> Capacity:
        """What is known of a cluster whose report leans on one that we don't have."""
        if (report := self._loop.state.reports.get(cluster)) is not None:
            return report.capacity
        record = self._loop.state.clusters.get(cluster)
        return record.last.capacity if record and record.last else Capacity()

    async def _farewell(self, session: _Session) -> None:
        event = AgentDisconnected(cluster=session.cluster, epoch=session.welcomed.epoch)
        log.info("agent disconnected", extra={"cluster": event.cluster, "epoch": event.epoch})
        with contextlib.suppress(FederationError):  # the lease ends by itself
            await self._loop.submit(event)


async def _send_assignments(session: _Session, assignments: Latest[Assignment]) -> None:
    assignment = session.welcomed.assignment
    sent = -1
    while True:
        if assignment.generation > sent:
            message = codec.assignment_to_proto(assignment)
            await session.outbox.send(pb.AgentInstruction(assignment=message))
            sent = assignment.generation
        assignment = await assignments.take()


async def _send_trust(outbox: Sender, trusts: Latest[Trust]) -> None:
    while True:
        trust = codec_trust.trust_to_proto(await trusts.take())
        await outbox.send(pb.AgentInstruction(trust=trust))


async def _send_routers(outbox: Sender, routers: Latest[tuple[RouterAddress, ...]]) -> None:
    while True:
        addresses = codec_trust.routers_to_proto(await routers.take())
        await outbox.send(pb.AgentInstruction(routers=addresses))


async def _send_settings(outbox: Sender, spec: SyncSpec) -> None:
    await outbox.send(pb.AgentInstruction(sync=codec_sync.settings_to_proto(spec)))


async def _send_new_settings(outbox: Sender, settings: Latest[SyncSpec], sent: SyncSpec) -> None:
    while True:
        spec = await settings.take()
        if spec != sent:
            await _send_settings(outbox, spec)
            sent = spec


async def _send_peers(outbox: Sender, peers: Latest[tuple[SyncPeer, ...]]) -> None:
    while True:
        told = codec_sync.peers_to_proto(await peers.take())
        await outbox.send(pb.AgentInstruction(peers=told))


def _checked_hello(message: pb.AgentMessage, peer: Peer) -> pb.AgentHello:
    if message.WhichOneof("body") != "hello":
        raise Invalid("the first message of an agent must be its hello.")
    hello = message.hello
    check_name("cluster", hello.cluster)
    check_text("the agent's instance", hello.instance)
    check_speaks_for(peer, hello.cluster)
    return hello


def _check_report(message: pb.Report, cluster: str, epoch: int) -> None:
    """Refuse a report of an agent that does not speak for itself, or that says too much; an old
    epoch is the decider's business."""
    if message.cluster != cluster:
        raise PermissionDenied(
            f"the agent of cluster {cluster!r} reported for {message.cluster[:64]!r}."
        )
    if message.epoch > epoch:
        raise Invalid(f"a report of epoch {message.epoch} came in epoch {epoch}.")
    if len(message.observed.versions) > MAX_VERSIONS:
        raise Invalid(f"a report lists more than {MAX_VERSIONS} model versions.")
    for version in message.observed.versions:
        check_text("a model's name", version.model)
        check_text("a reason", version.reason)
        check_text("what a transfer waits for", version.sync.waiting)


def _bounded(report: Report) -> Report:
    """Return the report with its measured numbers within bounds."""
    versions = tuple(
        checked_version(replace(v, sync=bounded_progress(v.sync)) if v.sync else v)
        for v in report.observed.versions
    )
    disk, told = bounded_disk(report.disk), report.observed.versions
    if disk is report.disk and all(map(operator.is_, versions, told)):
        return report  # nearly always: a copy of each would cost more than the check
    return replace(report, disk=disk, observed=replace(report.observed, versions=versions))
