"""The agent's one stream to the control plane: the only door to gRPC.

Input: instructions from the control plane (welcome, assignments, whom to trust, where routers are,
how to fetch models and with whom to share them).
Output: assignments for the agent's loop, reports for the control plane. It dials for ever; nothing
that happens here ever stops the agent from serving. After a renewal the stream moves: the newer one
is welcomed before the older one is left, so that the lease has no gap.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import grpc.aio

from edge_agent.dialling import Call, Ending, Hello, NoStream, Stream, dial, ending_of
from edge_agent.identity import Identity
from edge_agent.policy.capacity import make_report, same_in_kind
from edge_agent.policy.session import LinkState, Session
from federation.contract import codec, codec_sync, codec_trust
from federation.contract.capacity import Capacity
from federation.contract.codec_deltas import CapacityWriter
from federation.contract.sync import Disk, SyncPeer, SyncSpec
from federation.contract.trust import RouterAddress, Trust
from federation.contract.types import Assignment, Observed
from federation.contract.v1 import federation_pb2 as pb
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)

MOVE_RETRY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Who hears what the control plane tells; `assignment` also hears whether it is the first."""

    assignment: Callable[[Assignment, bool], None]
    routers: Callable[[tuple[RouterAddress, ...]], None] = lambda _: None
    sync: Callable[[SyncSpec], None] = lambda _: None
    peers: Callable[[tuple[SyncPeer, ...]], None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a report comes from: capacity and versions as they are now, and the disk."""

    observe: Callable[[], tuple[Capacity, Observed]]
    disk: Callable[[], Disk] = Disk


class Link:
    """Keeps a stream open; `run` never returns."""

    def __init__(
        self,
        hello: Hello,
        *,
        session: Session,
        identity: Identity,
        sources: Sources,
        told: Told,
        clock: Clock,
    ) -> None:
        self.session = session
        self.welcomes = 0
        self.reports = 0
        self._hello = hello
        self._identity = identity
        self._sources = sources
        self._told = told
        self._clock = clock
        self._wake = asyncio.Event()
        self._renewed = asyncio.Event()
        self._leaf = identity.credentials.leaf
        self._reported: Observed | None = None
        self._logged: set[str] = set()
        self._fresh = False  # no assignment came yet since the welcome
        self._stream: Stream | None = None  # the newest; reports go nowhere else
        self._writer = CapacityWriter()  # of that stream
        identity.credentials.on_change.append(self._credentials_changed)

    def __repr__(self) -> str:
        return f"Link({self._hello.cluster} -> {self._hello.control_plane}, {self.session!r})"

    @property
    def joined(self) -> bool:
        """Whether reports flow."""
        return self.session.state is LinkState.JOINED

    def notify(self) -> None:
        """Tell that what is observed may have changed; it is reported soon if it did."""
        capacity, observed = self._sources.observe()
        leans = self._stream is not None and self._stream.compact
        told = not leans or self._writer.is_told(capacity)
        if not (told and same_in_kind(self._reported, observed)):
            self.session.changed()
            self._wake.set()

    async def run(self) -> None:
        """Dial, converse, wait, for ever. Nothing is dialled before there is a certificate."""
        if self.session.state in (LinkState.CONNECTING, LinkState.JOINED):
            self.session.broken("the link failed and starts again.", self._clock.monotonic_s())
        await self._identity.membership.joined()
        while True:
            await self._until_dial()
            self.session.dialled()
            try:
                stream = await self._dial()
            except NoStream as error:
                ending = error.ending
            else:
                self.session.welcomed(stream.welcome, self._clock.monotonic_s())
                self._welcomed(stream)
                ending = await self._stay(stream)
            self._ended(ending)

    def _ended(self, ending: Ending) -> None:
        now = self._clock.monotonic_s()
        if ending.refusal:
            self.session.refused(ending.reason, now)
        else:
            self.session.broken(ending.reason, now)
        if ending.identity:
            self._identity.membership.doubted()
        if ending.reason not in self._logged:  # each reason is told once
            self._logged.add(ending.reason)
            log.warning("not connected to the control plane: %s", ending.reason)

    def _credentials_changed(self) -> None:
        if self._identity.credentials.leaf is not self._leaf:
            self._leaf = self._identity.credentials.leaf
            self._renewed.set()

    async def _until_dial(self) -> None:
        """Wait until a dial is due; a new certificate is tried at once."""
        wait_s = self.session.dial_s - self._clock.monotonic_s()
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._renewed.wait()

    # ------------------------------------------------------------ one stream

    async def _dial(self) -> Stream:
        """Return a stream that was welcomed; raises NoStream."""
        self._renewed.clear()
        return await dial(self._hello, self._identity, self._clock)

    def _welcomed(self, stream: Stream) -> None:
        self.welcomes += 1
        self._stream = stream
        self._logged.clear()
        self._fresh = True
        self._wake.set()
        log.info("connected to the control plane", extra={"epoch": stream.welcome.epoch})

    async def _stay(self, stream: Stream) -> Ending:
        """Converse, on a newer stream after each renewal; return why the last one ended."""
        try:
            while True:
                async with asyncio.TaskGroup() as group:
                    talk = group.create_task(self._converse(stream))
                    try:
                        newer = await self._newer(talk)
                        stream = newer or stream
                    finally:
                        talk.cancel()
                if newer is None:
                    return talk.result()
        finally:
            await stream.close()

    async def _newer(self, talk: "asyncio.Task[Ending]") -> Stream | None:
        """Return a stream with a newer certificate as soon as there is one; None if the
        conversation ends before.

        The control plane may end the older stream as soon as it hears the hello of the newer one.
        """
        while True:
            async with asyncio.TaskGroup() as group:
                renewed = group.create_task(self._renewed.wait())
                await asyncio.wait({talk, renewed}, return_when=asyncio.FIRST_COMPLETED)
                renewed.cancel()
            if talk.done():
                return None
            try:
                newer = await self._dial()
            except NoStream as error:
                log.warning("the older stream stays: %s", error)
                await asyncio.wait({talk}, timeout=MOVE_RETRY_S)
                self._renewed.set()
                continue
            self.session.moved(newer.welcome, self._clock.monotonic_s())
            self._welcomed(newer)
            return newer

    async def _converse(self, stream: Stream) -> Ending:
        """Report and listen until the stream ends; return why it did."""
        try:
            async with asyncio.TaskGroup() as group:
                reporting = group.create_task(self._report(stream))
                ending = await self._listen(stream.call)
                reporting.cancel()
        finally:
            await stream.close()
        return ending

    async def _listen(self, call: Call) -> Ending:
        """Hand on instructions until the stream ends; one of a newer peer is passed over."""
        try:
            while isinstance(message := await call.read(), pb.AgentInstruction):
                self._hear(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the status says it all
        return await ending_of(call)

    def _hear(self, message: pb.AgentInstruction) -> None:
        match message.WhichOneof("body"):
            case "assignment":
                fresh, self._fresh = self._fresh, False
                self._told.assignment(codec.assignment_from_proto(message.assignment), fresh)
            case "trust":
                self._keep_trust(codec_trust.trust_from_proto(message.trust))
            case "routers":
                self._told.routers(codec_trust.routers_from_proto(message.routers))
            case "sync":
                self._told.sync(codec_sync.settings_from_proto(message.sync))
            case "peers":
                self._told.peers(codec_sync.peers_from_proto(message.peers))
            case "capacity_wanted":
                self._writer.forget()
                self.session.changed()
                self._wake.set()
            case _:
                pass

    def _keep_trust(self, trust: Trust) -> None:
        _, held = self._identity.credentials.require()
        if trust.trust_domain != held.trust_domain or not trust.roots:
            log.error("the control plane told of a trust that cannot be ours; it is not used")
        else:
            self._identity.credentials.keep_trust(trust)

    async def _report(self, stream: Stream) -> None:
        """Send reports when they are due; the reader learns why the stream ended, not this.

        The capacity goes out whole first, later only as far as it changed.
        """
        self._writer = CapacityWriter()
        while stream is self._stream:
            wait_s = self.session.report_s() - self._clock.monotonic_s()
            if wait_s > 0:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                continue
            capacity, observed = self._sources.observe()
            self._reported = observed
            report = make_report(
                cluster=self._hello.cluster,
                stamp=self.session.stamp_report(self._clock.monotonic_s()),
                capacity=replace(capacity, observed_at=self._clock.utc()),
                observed=observed,
                url=self._hello.url,
                disk=self._sources.disk(),
            )
            compact = None
            if stream.compact:
                compact = self._writer.write(report.sequence, report.capacity)
            message = codec.report_to_proto(report, compact)
            try:
                await stream.call.write(pb.AgentMessage(report=message))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return
            self.reports += 1
