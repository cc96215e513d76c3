"""The agent's one stream to the control plane: the only door to gRPC.

Input: instructions from the control plane (welcome, assignments). Output: assignments for the
agent's loop, reports for the control plane, and the credential in the state directory. It dials for
ever; nothing that happens here ever stops the agent from serving.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import grpc.aio

from edge_agent.identity import IdentityFiles
from edge_agent.policy.capacity import make_report, same_in_kind
from edge_agent.policy.session import LinkState, Session, Welcomed
from federation.contract import codec
from federation.contract.errors import Invalid
from federation.contract.types import Assignment, Device, EngineKind, Observed
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.runtime.channel import connect
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)

Call = grpc.aio.StreamStreamCall[pb.AgentMessage, pb.AgentInstruction]

WELCOME_TIMEOUT_S = 10.0
# Answers that will not change within seconds: an operator has to do something. Those of the first
# set are about the secret that was shown; another one may do.
SECRET_REFUSALS = {
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
}
REFUSALS = SECRET_REFUSALS | {
    grpc.StatusCode.ABORTED,  # another agent of this cluster took over
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
    software_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why a stream ended."""

    reason: str
    refusal: bool = False  # an operator has to do something
    secret: bool = False  # it is about the secret that was shown


class Link:
    """Keeps the stream open; `run` never returns."""

    def __init__(
        self,
        hello: Hello,
        *,
        session: Session,
        identity: IdentityFiles,
        observe: Callable[[], tuple[tuple[Device, ...], Observed]],
        on_assignment: Callable[[Assignment, bool], None],
        clock: Clock,
    ) -> None:
        self.session = session
        self.welcomes = 0
        self.reports = 0
        self._hello = hello
        self._identity = identity
        self._observe = observe
        self._on_assignment = on_assignment
        self._clock = clock
        self._wake = asyncio.Event()
        self._reported: Observed | None = None
        self._told: set[str] = set()
        self._fresh = False  # no assignment came yet since the welcome

    def __repr__(self) -> str:
        return f"Link({self._hello.cluster} -> {self._hello.control_plane}, {self.session!r})"

    @property
    def joined(self) -> bool:
        """Whether reports flow."""
        return self.session.state is LinkState.JOINED

    def notify(self) -> None:
        """Tell that what is observed may have changed; it is reported soon if it did."""
        if not same_in_kind(self._reported, self._observe()[1]):
            self.session.changed()
            self._wake.set()

    async def run(self) -> None:
        """Dial, converse, wait, for ever."""
        if self.session.state in (LinkState.CONNECTING, LinkState.JOINED):
            self.session.broken("the link failed and starts again.", self._clock.monotonic_s())
        while True:
            await asyncio.sleep(max(0.0, self.session.dial_s - self._clock.monotonic_s()))
            self.session.dialled()
            secret = ""
            secrets: tuple[str, ...] = ()
            try:
                secrets = await asyncio.to_thread(self._identity.secrets)
                secret = self.session.choose_secret(secrets)
                ending = await self._converse(secret)
            except Invalid as error:
                ending = Ending(refusal=True, reason=error.sentence())
            now = self._clock.monotonic_s()
            if ending.secret:
                self.session.secret_refused(secret, secrets, ending.reason, now)
            elif ending.refusal:
                self.session.refused(ending.reason, now)
            else:
                self.session.broken(ending.reason, now)
            if ending.reason not in self._told:  # each reason is told once
                self._told.add(ending.reason)
                log.warning("not connected to the control plane: %s", ending.reason)

    async def _converse(self, secret: str) -> Ending:
        """Open one stream and return why it ended."""
        async with connect(self._hello.control_plane) as channel:
            stub = rpc.AgentServiceStub(channel)
            call: Call = stub.Connect(metadata=(("authorization", f"Bearer {secret}"),))
            try:
                async with asyncio.timeout(WELCOME_TIMEOUT_S):
                    await call.write(pb.AgentMessage(hello=await self._introduce()))
                    first = await call.read()
                if not isinstance(first, pb.AgentInstruction):
                    return await _ending(call)
                if first.WhichOneof("body") != "welcome":
                    return Ending(refusal=True, reason="the far end is no control plane of ours.")
                await self._welcomed(first.welcome)
                async with asyncio.TaskGroup() as group:
                    reporting = group.create_task(self._report(call))
                    ending = await self._listen(call)
                    reporting.cancel()
            except TimeoutError:
                return Ending(reason=f"no welcome within {WELCOME_TIMEOUT_S:.0f} seconds.")
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return await _ending(call)
            finally:
                call.cancel()
            return ending

    async def _introduce(self) -> pb.AgentHello:
        return pb.AgentHello(
            cluster=self._hello.cluster,
            instance=await asyncio.to_thread(self._identity.instance),
            software_version=self._hello.software_version,
            engine=codec.engine_to_proto(self._hello.engine),
            url=self._hello.url,
        )

    async def _welcomed(self, welcome: pb.Welcome) -> None:
        if welcome.credential:  # the join token is used up: without this the cluster is locked out
            await asyncio.to_thread(self._identity.keep_credential, welcome.credential)
        self.welcomes += 1
        self._told.clear()
        self._fresh = True
        self.session.welcomed(
            Welcomed(
                epoch=welcome.epoch,
                report_interval_s=(welcome.report_interval_ms or 1000) / 1000,
            ),
            self._clock.monotonic_s(),
        )
        log.info("connected to the control plane", extra={"epoch": welcome.epoch})

    async def _listen(self, call: Call) -> Ending:
        """Hand on instructions until the stream ends; one of a newer peer is passed over."""
        try:
            while isinstance(message := await call.read(), pb.AgentInstruction):
                if message.WhichOneof("body") == "assignment":
                    fresh, self._fresh = self._fresh, False
                    self._on_assignment(codec.assignment_from_proto(message.assignment), fresh)
        except grpc.aio.AioRpcError:
            pass  # the status says it all
        return await _ending(call)

    async def _report(self, call: Call) -> None:
        """Send reports when they are due; the reader learns why the stream ended, not this."""
        while True:
            wait_s = self.session.report_s() - self._clock.monotonic_s()
            if wait_s > 0:
                self._wake.clear()
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                continue
            devices, observed = self._observe()
            self._reported = observed
            report = make_report(
                cluster=self._hello.cluster,
                stamp=self.session.stamp_report(self._clock.monotonic_s()),
                devices=devices,
                observed=observed,
                url=self._hello.url,
                observed_at=self._clock.utc(),
            )
            try:
                await call.write(pb.AgentMessage(report=codec.report_to_proto(report)))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return
            self.reports += 1


async def _ending(call: Call) -> Ending:
    code, details = await call.code(), await call.details()
    if code is grpc.StatusCode.OK:
        return Ending(reason="the control plane ended the stream.")
    sentence = details or f"the control plane answered {code.name}."
    if code is grpc.StatusCode.UNIMPLEMENTED:
        sentence = "the far end is no control plane: look at --control-plane."
    elif code is grpc.StatusCode.UNAVAILABLE:
        sentence = "the control plane does not answer."
    return Ending(reason=sentence, refusal=code in REFUSALS, secret=code in SECRET_REFUSALS)
