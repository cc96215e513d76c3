"""V2 gRPC at the gateway: what all calls share.

Input: connections of routers that speak HTTP/2, the desk of the gateway, the engine's own gRPC.
Output: a Service for the switch. An engine without gRPC is no reason to refuse the connection: each
call is told, so that the router can try elsewhere.
"""

import asyncio
import contextlib

from edge_agent.backends.base import Backend as Engine
from edge_agent.backends.base import SpeaksGrpc
from edge_agent.gateway.desk import Desk
from edge_agent.gateway.grpc_call import GatewayCall
from federation.relay.forward import Forwarder
from federation.relay.guard import PeerGuard
from federation.relay.h2.backend import Backend
from federation.relay.h2.heads import AnswerReader, RequestHead, RequestReader
from federation.relay.h2.service import Handler, SwitchLimits
from federation.relay.h2.switch import Switch
from federation.relay.headers import HOP_BY_HOP, MODEL_HEADER, REQUEST_ID_HEADER, VERSION_HEADER
from federation.relay.transport import Dialler, Inbound, ProtocolFactory
from federation.runtime.clock import Clock

# Without grpc-accept-encoding: an answer whose names have to be replaced must come plain.
_PASSES = (
    *(b"te", b"content-type", b"user-agent", b"traceparent", b"tracestate"),
    *(b"grpc-timeout", b"grpc-trace-bin", b"grpc-tags-bin", b"triton_grpc_error"),
    REQUEST_ID_HEADER.encode(),
)
_NOTES = (MODEL_HEADER.encode(), VERSION_HEADER.encode())
_CUT = (*(name.encode() for name in HOP_BY_HOP), b"grpc-message", b"server", b"date")
_CONNECT_S = 2.0
_APART = (b"x-request-id", b"traceparent", b"tracestate")  # another value in each call


class GrpcService:
    """Decides for all gRPC calls of a gateway. `switch` is what takes connections over."""

    def __init__(
        self,
        engine: Engine,
        desk: Desk,
        *,
        clock: Clock,
        guard: PeerGuard | None = None,
        limits: SwitchLimits | None = None,
    ) -> None:
        self.speaks = engine if isinstance(engine, SpeaksGrpc) else None
        self.desk = desk
        self.requests = RequestReader(
            passes=_PASSES, notes=_NOTES, prefixes=(b"grpc-tags-",), apart=_APART
        )
        self.answers = AnswerReader(cut=_CUT, notes=(), prefixes=(b"x-fed-",))
        limits = limits or SwitchLimits(replay_bytes=0, connect_s=_CONNECT_S)
        self.switch = Switch(self, limits=limits, now=clock.monotonic_s)
        self._guard = guard
        self._backends: dict[str, Backend] = {}  # by address

    def __repr__(self) -> str:
        return f"GrpcService({self.switch}, {list(self._backends.values())})"

    def open(self, head: RequestHead, inbound: Inbound | None) -> Handler:
        """Return who decides for a call."""
        return GatewayCall(self, head, inbound)

    def serving(
        self, head: RequestHead, inbound: Inbound | None
    ) -> contextlib.AbstractContextManager[None]:
        """Return the time that a call lasts, for its connection; raises FederationError if its peer
        may not ask."""
        if self._guard is None or inbound is None:
            return contextlib.nullcontext()
        self._guard.admit_on(inbound, head.path.decode("ascii", "replace"))
        if self._guard.is_last(inbound):
            self.switch.part_with(inbound)
        return self._guard.serving_on(inbound)

    def backend(self, address: str) -> Backend:
        """Return where calls for an engine's address go."""
        known = self._backends.get(address)
        if known is None:
            known = self._backends[address] = self.switch.backend(address, EngineDialler(address))
        return known


class EngineDialler:
    """Plain connections to the engine beside us."""

    def __init__(self, address: str) -> None:
        self._dialler: Dialler = Forwarder().dialler(f"http://{address}")

    async def connect(
        self, protocol_factory: ProtocolFactory, *, connect_s: float
    ) -> asyncio.Transport:
        """Return a connection with the caller's protocol on it; raises ForwardError."""
        return await self._dialler.connect(protocol_factory, connect_s=connect_s)

    def usable(self, transport: asyncio.Transport) -> bool:
        """Return whether another call may go out on a connection."""
        return self._dialler.usable(transport)
