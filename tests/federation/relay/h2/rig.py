"""A switch between raw clients and places that answer, and a service that decides little."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from federation.contract.errors import Exhausted, FederationError, Invalid, NotFound, Unavailable
from federation.relay.h2 import wire
from federation.relay.h2.backend import Backend
from federation.relay.h2.heads import AnswerHead, AnswerReader, RequestHead, RequestReader
from federation.relay.h2.message import Named, peek
from federation.relay.h2.rewriting import AppendingToRequests
from federation.relay.h2.service import Failure, Handler, Kind, Patience, Reply, Route, SwitchLimits
from federation.relay.h2.start import Start
from federation.relay.h2.status import Status, Unimplemented
from federation.relay.h2.switch import Switch
from federation.relay.h2.wheel import NEVER
from federation.relay.transport import Inbound
from tests.federation.relay.h2.peers import (
    ATTEMPTS,
    BIG_BYTES,
    CALL,
    HEADERS,
    INFER,
    LIVE,
    STREAM,
    Place,
    PlainDialler,
    RawClient,
    block,
    call,
    message,
)

__all__ = [
    "BIG_BYTES",
    "CALL",
    "HEADERS",
    "INFER",
    "LIVE",
    "STREAM",
    "FakeService",
    "Place",
    "PlainDialler",
    "Rig",
    "block",
    "call",
    "message",
    "rig",
]


@dataclass
class FakeService:
    """Goes through its backends in order."""

    backends: list[Backend] = field(default_factory=list)
    handlers: list["FakeHandler"] = field(default_factory=list)
    requests: RequestReader = field(
        default_factory=lambda: RequestReader(
            passes=(b"te", b"content-type", b"user-agent", b"x-a", b"x-secret"),
            notes=(b"authorization",),
            prefixes=(b"grpc-",),
        )
    )
    answers: AnswerReader = field(
        default_factory=lambda: AnswerReader(
            cut=(), notes=(b"x-fed-load", b"x-fed-refused"), prefixes=(b"x-fed-",)
        )
    )
    append: bytes = b""
    keep_bytes: int = 1 << 40
    first_s: float | None = None
    late: bool = False  # a call that lasts is sent to the next backend, too

    def open(self, head: RequestHead, inbound: Inbound | None) -> Handler:
        self.handlers.append(FakeHandler(self, head))
        return self.handlers[-1]

    @property
    def open_calls(self) -> int:
        return sum(handler.endings == [] for handler in self.handlers)


class FakeHandler(Handler):
    """Decides for one call."""

    def __init__(self, service: FakeService, head: RequestHead) -> None:
        self.service, self.head = service, head
        self.patience = Patience(total_s=head.timeout_s, first_s=service.first_s)
        self.failures: list[Failure] = []
        self.endings: list[Status | None] = []
        self.named: Named | None = None
        self.story: list[str] = []  # of the second attempt

    def route(self, start: Start) -> Route | Reply | None:
        if self.head.path == LIVE:
            return Reply(message=b"\x08\x01") if start.ended else None
        if self.head.path not in (INFER, STREAM):
            raise Unimplemented("unknown method")
        if start.ended and not start.size and not start.message:
            raise Invalid("no message")
        self.named = peek(start.message, whole=start.whole) if start.size else None
        if start.ended and self.named is None:
            raise Invalid("the message is cut")
        if self.named is None:
            return None
        if not self.named.name:
            raise Invalid("the name is empty")
        if self.named.name == "nope":
            raise NotFound("unknown model")
        backends = self.service.backends
        rewriter = None
        if self.service.append:
            rewriter = AppendingToRequests(
                self.service.append,
                encoding=self.head.encoding,
                same_model=self.head.path == STREAM,
            )
        return Route(backend=backends[len(self.failures) % len(backends)], request=rewriter)

    def keep(self, size: int) -> bool:
        self.service.keep_bytes -= size
        return self.service.keep_bytes >= 0

    def judge(self, answer: AnswerHead, *, alone: bool) -> Failure | None:
        if b"x-fed-refused" in answer.noted:
            return Failure(kind=Kind.REFUSED, why="it refused", reason="no")
        return None

    def answer(self, answer: AnswerHead, *, first: bool, last: bool) -> bytes:
        return answer.block

    def lost(self, failure: Failure, *, again: bool) -> None:
        self.failures.append(failure)
        if not again or len(self.failures) >= ATTEMPTS:
            raise _error_of(failure)

    def told(self, error: FederationError) -> bytes:
        return b""

    def late_at_s(self) -> float:
        return 0.0 if self.service.late else NEVER

    def late(self, now_s: float, body: bytes) -> Route | float:
        backends = self.service.backends
        return Route(backends[(len(self.failures) + 1) % len(backends)])

    def sent_too(self) -> None:
        self.story.append("sent")

    def second_takes_over(self, failure: Failure | None) -> None:
        self.story.append("won" if failure is None else f"left alone: {failure.kind}")

    def second_lost(self, failure: Failure) -> None:
        self.story.append(f"lost: {failure.kind}")

    def ended(self, status: Status | None, sent: int) -> None:
        self.endings.append(status)


def _error_of(failure: Failure) -> FederationError:
    if failure.status is Status.RESOURCE_EXHAUSTED:
        return Exhausted(failure.why)
    if failure.status is Status.INTERNAL:
        return FederationError(failure.why)
    return Unavailable(failure.why)


@dataclass
class Rig:
    """A switch between raw clients and two places."""

    switch: Switch
    service: FakeService
    places: list[Place]
    port: int
    clients: list[RawClient] = field(default_factory=list)

    async def client(self, *, acknowledges: bool = True, settings: bytes = b"") -> RawClient:
        """A client that has greeted and heard the switch's settings."""
        client = await self.silent_client()
        client.acknowledges = acknowledges
        client.write(wire.PREFACE + wire.frame(wire.SETTINGS, 0, 0, settings))
        await client.until(lambda: len(client.of(wire.SETTINGS)) >= 2)  # theirs, and their ACK
        return client

    async def silent_client(self) -> RawClient:
        client = RawClient(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    def mode(self, first: str, second: str = "ok") -> None:
        self.places[0].mode, self.places[1].mode = first, second

    @property
    def quiet(self) -> bool:
        """Nothing is on its way, nothing is held."""
        running = sum(b.running + b.waiting for b in self.service.backends)
        return not (self.switch.streams or running or len(self.switch.wheel))


@contextlib.asynccontextmanager
async def rig(
    *, limits: SwitchLimits | None = None, modes: Sequence[str] = ("ok", "ok")
) -> AsyncIterator[Rig]:
    """Run a switch before two places."""
    loop = asyncio.get_running_loop()
    places = [Place() for _ in modes]
    service = FakeService()
    switch = Switch(service, limits=limits, now=loop.time)
    for place, mode in zip(places, modes, strict=True):
        place.mode = mode
        await place.start()
        service.backends.append(switch.backend(mode, PlainDialler(place.port)))
    server = await loop.create_server(switch.takeover, "127.0.0.1", 0)
    made = Rig(switch, service, places, server.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        server.close()
        for client in made.clients:
            await client.closed()
        await switch.close()
        for place in places:
            await place.stop()
        await server.wait_closed()
