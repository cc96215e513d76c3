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

from edge_agent.identity import Identity
from edge_agent.policy.capacity import make_report, same_in_kind
from edge_agent.policy.session import LinkState, Session, Welcomed
from federation.contract import codec, codec_sync, codec_trust
from federation.contract.capacity import Capacity
from federation.contract.spiffe import control_plane_dns_name
from federation.contract.sync import Disk, SyncPeer, SyncSpec
from federation.contract.trust import RouterAddress, Trust
from federation.contract.types import Assignment, Connectivity, EngineKind, Observed
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.runtime.channel import connect
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)

Call = grpc.aio.StreamStreamCall[pb.AgentMessage, pb.AgentInstruction]

WELCOME_TIMEOUT_S = 10.0
MOVE_RETRY_S = 1.0
# Answers that will not change within seconds: an operator has to do something. Those of the first
# set are about our certificate; a renewed one may do.
IDENTITY_REFUSALS = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
REFUSALS = IDENTITY_REFUSALS | {
    grpc.StatusCode.ABORTED,  # another agent of this cluster took over
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """How this agent introduces itself. `control_plane` is HOST:PORT, `url` what routers dial."""

    control_plane: str
    cluster: str
    url: str
    engine: EngineKind
    connectivity: Connectivity = Connectivity.DIAL
    software_version: str = ""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why a stream ended."""

    reason: str
    refusal: bool = False  # an operator has to do something
    identity: bool = False  # it is about the certificate that was shown


class NoStream(Exception):
    """A dial gave no stream; the argument says why."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream that was welcomed."""

    channel: grpc.aio.Channel
    call: Call
    welcome: Welcomed

    async def close(self) -> None:
        """End it."""
        self.call.cancel()
        await self.channel.close()


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
        identity.credentials.on_change.append(self._credentials_changed)

    def __repr__(self) -> str:
        return f"Link({self._hello.cluster} -> {self._hello.control_plane}, {self.session!r})"

    @property
    def joined(self) -> bool:
        """Whether reports flow."""
        return self.session.state is LinkState.JOINED

    def notify(self) -> None:
        """Tell that what is observed may have changed; it is reported soon if it did."""
        if not same_in_kind(self._reported, self._sources.observe()[1]):
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
        leaf, trust = self._identity.credentials.require()
        if leaf.facts.not_after <= self._clock.utc():
            raise NoStream(Ending(reason="our certificate expired and could not be renewed yet."))
        channel = connect(
            self._hello.control_plane,
            self._identity.credentials.channel_credentials(),
            control_plane_dns_name(trust.trust_domain),
        )
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(channel.close)
            call: Call = rpc.AgentServiceStub(channel).Connect()
            undo.callback(call.cancel)
            welcome = await self._greet(call)
            undo.pop_all()  # it lives on
        return Stream(channel=channel, call=call, welcome=welcome)

    async def _greet(self, call: Call) -> Welcomed:
        """Say hello and return the welcome; raises NoStream."""
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                await call.write(pb.AgentMessage(hello=self._introduction()))
                first = await call.read()
        except TimeoutError:
            reason = f"no welcome within {WELCOME_TIMEOUT_S:.0f} seconds."
            raise NoStream(Ending(reason=reason)) from None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise NoStream(await _ending(call)) from None
        if not isinstance(first, pb.AgentInstruction):
            raise NoStream(await _ending(call))
        if first.WhichOneof("body") != "welcome":
            raise NoStream(Ending(refusal=True, reason="the far end is no control plane of ours."))
        return Welcomed(
            epoch=first.welcome.epoch,
            report_interval_s=(first.welcome.report_interval_ms or 1000) / 1000,
        )

    def _introduction(self) -> pb.AgentHello:
        return pb.AgentHello(
            cluster=self._hello.cluster,
            instance=self._identity.instance,
            software_version=self._hello.software_version,
            engine=codec.engine_to_proto(self._hello.engine),
            url=self._hello.url,
            connectivity=codec.connectivity_to_proto(self._hello.connectivity),
        )

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
        return await _ending(call)

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
            case _:
                pass

    def _keep_trust(self, trust: Trust) -> None:
        _, held = self._identity.credentials.require()
        if trust.trust_domain != held.trust_domain or not trust.roots:
            log.error("the control plane told of a trust that cannot be ours; it is not used")
        else:
            self._identity.credentials.keep_trust(trust)

    async def _report(self, stream: Stream) -> None:
        """Send reports when they are due; the reader learns why the stream ended, not this."""
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
            try:
                await stream.call.write(pb.AgentMessage(report=codec.report_to_proto(report)))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return
            self.reports += 1


async def _ending(call: Call) -> Ending:
    code, details = await call.code(), await call.details() or ""
    if code is grpc.StatusCode.OK:
        return Ending(reason="the control plane ended the stream.")
    sentence = details or f"the control plane answered {code.name}."
    if code is grpc.StatusCode.UNIMPLEMENTED:
        sentence = "the far end is no control plane: look at --control-plane."
    elif code is grpc.StatusCode.INTERNAL:  # what gRPC says when it was ended while we wrote
        sentence = "the control plane broke off."
    elif code is grpc.StatusCode.UNAVAILABLE and "VERIFY_FAILED" in details:
        sentence = "the far end does not prove to be our control plane: look at --control-plane."
    elif code is grpc.StatusCode.UNAVAILABLE:
        sentence = "the control plane does not answer."
    return Ending(reason=sentence, refusal=code in REFUSALS, identity=code in IDENTITY_REFUSALS)
