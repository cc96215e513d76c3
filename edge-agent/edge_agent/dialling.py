"""How a stream to the control plane is opened: dial, hello, welcome; and why it ended.

Input: who we are, and the identity to show. Output: a stream that was welcomed, or the reason in
words why there is none.
"""

import asyncio
import contextlib
from dataclasses import dataclass

import grpc.aio

from edge_agent.identity import Identity
from edge_agent.policy.session import Welcomed
from federation.contract import codec
from federation.contract.spiffe import control_plane_dns_name
from federation.contract.types import Connectivity, EngineKind
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.runtime.channel import connect, heed_cancellation
from federation.runtime.clock import Clock

Call = grpc.aio.StreamStreamCall[pb.AgentMessage, pb.AgentInstruction]

WELCOME_TIMEOUT_S = 10.0
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
    compact: bool = False  # it takes reports that lean on earlier ones

    async def close(self) -> None:
        """End it."""
        self.call.cancel()
        await self.channel.close()


async def dial(hello: Hello, identity: Identity, clock: Clock) -> Stream:
    """Return a stream that was welcomed; raises NoStream."""
    leaf, trust = identity.credentials.require()
    if leaf.facts.not_after <= clock.utc():
        raise NoStream(Ending(reason="our certificate expired and could not be renewed yet."))
    channel = connect(
        hello.control_plane,
        identity.credentials.channel_credentials(),
        control_plane_dns_name(trust.trust_domain),
    )
    async with contextlib.AsyncExitStack() as undo:
        undo.push_async_callback(channel.close)
        call: Call = rpc.AgentServiceStub(channel).Connect()
        undo.callback(call.cancel)
        welcome = await _greet(call, _introduction(hello, identity.instance))
        undo.pop_all()  # it lives on
    return Stream(
        channel=channel,
        call=call,
        welcome=Welcomed(
            epoch=welcome.epoch,
            report_interval_s=(welcome.report_interval_ms or 1000) / 1000,
        ),
        compact=welcome.compact_reports,
    )


async def _greet(call: Call, introduction: pb.AgentHello) -> pb.Welcome:
    """Say hello and return the welcome; raises NoStream."""
    try:
        async with asyncio.timeout(WELCOME_TIMEOUT_S):
            await call.write(pb.AgentMessage(hello=introduction))
            first = await call.read()
    except TimeoutError:
        reason = f"no welcome within {WELCOME_TIMEOUT_S:.0f} seconds."
        raise NoStream(Ending(reason=reason)) from None
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        raise NoStream(await ending_of(call)) from None
    if not isinstance(first, pb.AgentInstruction):
        raise NoStream(await ending_of(call))
    if first.WhichOneof("body") != "welcome":
        raise NoStream(Ending(refusal=True, reason="the far end is no control plane of ours."))
    return first.welcome


def _introduction(hello: Hello, instance: str) -> pb.AgentHello:
    return pb.AgentHello(
        cluster=hello.cluster,
        instance=instance,
        software_version=hello.software_version,
        engine=codec.engine_to_proto(hello.engine),
        url=hello.url,
        connectivity=codec.connectivity_to_proto(hello.connectivity),
    )


async def ending_of(call: Call) -> Ending:
    """Return why a stream ended, in words; raises CancelledError if its reader was cancelled."""
    heed_cancellation()
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
