"""RouterService: snapshots and trust down; answers, status and explanations up.

Input: the streams of the routers; snapshots and trust from the publisher. Output: events for the
control loop, and RouterHub, through which the operator API asks connected routers to explain a
decision.
"""

import asyncio
import contextlib
import json
import logging
import math
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from federation.api.doorkeeper import Doorkeeper, check_speaks_for
from federation.api.streams import (
    MAX_TEXT,
    Outbox,
    check_address,
    check_location,
    check_text,
    check_url,
    first_message,
    heard_before_refused,
    run_until_first,
)
from federation.contract import codec, codec_rollout, codec_trust
from federation.contract.codec_snapshots import SnapshotWriter
from federation.contract.errors import Conflict, FederationError, Invalid
from federation.contract.names import check_name
from federation.contract.spiffe import PeerRole
from federation.contract.trust import Trust
from federation.contract.types import Snapshot
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.control_loop import ControlLoop
from federation.policy.events import (
    RouterAnswered,
    RouterConnected,
    RouterDisconnected,
    RouterReported,
)
from federation.policy.records import ClusterSeen
from federation.policy.rollouts.events import RouterCounted
from federation.publisher import Closed, Latest, Publisher
from federation.trust.peers import Peer

log = logging.getLogger(__name__)

EXPLAIN_TIMEOUT_S = 2.0
QUESTIONS = 64  # that may wait for one router
MOST_HELD = 10_000  # models that requests wait for, of one status

Context = grpc.aio.ServicerContext[pb.RouterMessage, pb.RouterInstruction | bytes]
Sender = Outbox[pb.RouterInstruction | bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterExplanation:
    """How one router would route a request, or why it could not say."""

    router: str
    url: str
    explanation: dict[str, Any] | None = None
    error: str = ""


class Connection:
    """A connected router: the questions that wait for it, and who waits for the answers."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self.replaced = asyncio.Event()
        self._questions: asyncio.Queue[pb.ExplainRequest] = asyncio.Queue(QUESTIONS)
        self._answers: dict[str, asyncio.Future[pb.Explanation]] = {}

    def __repr__(self) -> str:
        return f"Connection({self.name}, waiting={len(self._answers)})"

    async def question(self) -> pb.ExplainRequest:
        """Wait for the next question to send."""
        return await self._questions.get()

    def answer(self, explanation: pb.Explanation) -> None:
        """Hand an answer to whoever waits for it; an unknown or late one is dropped."""
        waiting = self._answers.get(explanation.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(explanation)

    async def explain(
        self,
        model: str,
        address: str,
        timeout_s: float,
        *,
        client_key: str = "",
        request_id: str = "",
    ) -> RouterExplanation:
        """Ask this router; never raises for what the router does."""
        id_ = uuid.uuid4().hex
        answer = self._answers[id_] = asyncio.get_running_loop().create_future()
        question = pb.ExplainRequest(
            id=id_,
            model=model,
            client_address=address,
            client_key=client_key,
            request_id=request_id,
        )
        try:
            self._questions.put_nowait(question)
            async with asyncio.timeout(timeout_s):
                return self._told(await answer)
        except asyncio.QueueFull:
            return self._told_not("too many questions wait for this router.")
        except TimeoutError:
            return self._told_not(f"the router did not answer within {timeout_s:g} s.")
        finally:
            del self._answers[id_]

    def _told(self, answer: pb.Explanation) -> RouterExplanation:
        if answer.error:
            return self._told_not(answer.error)
        try:
            document = json.loads(answer.document_json)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            return self._told_not("the router's answer is no JSON object.")
        return RouterExplanation(router=self.name, url=self.url, explanation=document)

    def _told_not(self, why: str) -> RouterExplanation:
        return RouterExplanation(router=self.name, url=self.url, error=why)


class RouterHub:
    """The connected routers by name; of two with one name, the newest counts."""

    def __init__(self) -> None:
        self._connections: dict[str, Connection] = {}

    def __repr__(self) -> str:
        return f"RouterHub({', '.join(sorted(self._connections))})"

    def __len__(self) -> int:
        return len(self._connections)

    @contextmanager
    def connected(self, name: str, url: str) -> Iterator[Connection]:
        """Hold a router while its stream lasts; an older stream of that name is told to end."""
        if (older := self._connections.get(name)) is not None:
            older.replaced.set()
        connection = self._connections[name] = Connection(name, url)
        try:
            yield connection
        finally:
            if self._connections.get(name) is connection:
                del self._connections[name]

    async def explain(
        self,
        model: str,
        address: str,
        *,
        client_key: str = "",
        request_id: str = "",
        timeout_s: float = EXPLAIN_TIMEOUT_S,
    ) -> list[RouterExplanation]:
        """Ask all connected routers at once how they would route a request, or what became of one
        that they answered; ordered by name."""
        routers = [self._connections[name] for name in sorted(self._connections)]
        return await asyncio.gather(
            *(
                r.explain(model, address, timeout_s, client_key=client_key, request_id=request_id)
                for r in routers
            )
        )


def serve_routers(service: "RouterService", server: grpc.aio.Server) -> None:
    """Have a server serve the routers; instructions may be bytes already."""
    watch = grpc.stream_stream_rpc_method_handler(
        service.Watch,
        request_deserializer=pb.RouterMessage.FromString,
        response_serializer=_serialized,
    )
    name = pb.DESCRIPTOR.services_by_name["RouterService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Watch": watch}),))
    server.add_registered_method_handlers(name, {"Watch": watch})


def _serialized(message: pb.RouterInstruction | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


@dataclass(frozen=True, slots=True)
class _Stream:
    """One accepted stream."""

    hello: pb.RouterHello
    peer: Peer
    outbox: Sender


class RouterService(rpc.RouterServiceServicer):
    """Serves the routers."""

    def __init__(
        self, *, loop: ControlLoop, publisher: Publisher, hub: RouterHub, doorkeeper: Doorkeeper
    ) -> None:
        self._loop = loop
        self._publisher = publisher
        self._hub = hub
        self._doorkeeper = doorkeeper
        self._writer = SnapshotWriter()  # what is encoded once goes to all

    def __repr__(self) -> str:
        return f"RouterService({self._hub!r})"

    async def Watch(  # type: ignore[override]  # noqa: N802  # a coroutine that writes; the .proto's name
        self, request_iterator: AsyncIterator[pb.RouterMessage], context: Context
    ) -> None:
        """Serve one stream until either side ends it."""
        try:
            async with heard_before_refused(request_iterator):
                peer = self._doorkeeper.admit(context, PeerRole.ROUTER)
            hello = _checked_hello(await first_message(request_iterator), peer)
            with self._hub.connected(hello.name, hello.url) as connection:
                await self._loop.submit(_connected(hello, peer))
                log.info("router connected", extra={"router": hello.name})
                try:
                    stream = _Stream(hello, peer, Outbox(context))
                    await self._converse(connection, stream, request_iterator)
                finally:
                    if not connection.replaced.is_set():  # else it is present on a newer stream
                        await self._farewell(hello)
        except FederationError as error:
            await self._doorkeeper.turn_away(context, "RouterService.Watch", error)

    async def _converse(
        self,
        connection: Connection,
        stream: _Stream,
        messages: AsyncIterator[pb.RouterMessage],
    ) -> None:
        hello, peer, outbox = stream.hello, stream.peer, stream.outbox
        with (
            self._publisher.router_subscription(hello.name, peer.generation) as snapshots,
            self._publisher.trust.subscription() as trusts,
        ):
            try:
                await run_until_first(
                    _send_trust(outbox, trusts),
                    self._receive(connection, hello, messages),
                    _send_snapshots(snapshots, outbox, self._writer, hello.snapshot_version),
                    _send_questions(connection, outbox),
                    _end_when_replaced(connection),
                    self._doorkeeper.end_when_expired(peer),
                )
            except Closed as closed:
                raise self._doorkeeper.why_closed(peer, str(closed)) from None

    async def _receive(
        self,
        connection: Connection,
        hello: pb.RouterHello,
        messages: AsyncIterator[pb.RouterMessage],
    ) -> None:
        async for message in messages:
            match message.WhichOneof("body"):
                case "ack":
                    await self._answered(hello, message.ack.version)
                case "nack":
                    reason = message.nack.reason[:MAX_TEXT] or "refused without a reason"
                    log.warning("snapshot refused", extra={"router": hello.name, "why": reason})
                    await self._answered(hello, message.nack.version, reason)
                case "status":
                    await self._loop.submit(_reported(hello, message.status))
                case "counts":
                    await self._loop.submit(_counted(hello, message.counts))
                case "explanation":
                    connection.answer(message.explanation)
                case "hello":
                    raise Invalid("a second hello on one stream.", hint="Open a new stream.")
                case _:  # a message of a newer router
                    continue

    async def _answered(self, hello: pb.RouterHello, version: int, rejection: str = "") -> None:
        await self._loop.submit(
            RouterAnswered(
                name=hello.name,
                instance=hello.instance,
                snapshot_version=version,
                rejection=rejection,
            )
        )

    async def _farewell(self, hello: pb.RouterHello) -> None:
        log.info("router disconnected", extra={"router": hello.name})
        with contextlib.suppress(FederationError):
            await self._loop.submit(RouterDisconnected(name=hello.name, instance=hello.instance))


async def _send_snapshots(
    snapshots: Latest[Snapshot], outbox: Sender, writer: SnapshotWriter, held: int
) -> None:
    """Send each new snapshot; the one that the router holds already is not sent again."""
    while True:
        snapshot = await snapshots.take()
        if snapshot.version != held:
            await outbox.send(writer.instruction(snapshot))
            held = snapshot.version


async def _send_trust(outbox: Sender, trusts: Latest[Trust]) -> None:
    while True:
        trust = codec_trust.trust_to_proto(await trusts.take())
        await outbox.send(pb.RouterInstruction(trust=trust))


async def _send_questions(connection: Connection, outbox: Sender) -> None:
    while True:
        await outbox.send(pb.RouterInstruction(explain=await connection.question()))


async def _end_when_replaced(connection: Connection) -> None:
    await connection.replaced.wait()
    raise Conflict(
        f"another router connected under the name {connection.name!r}.",
        hint="Give each router its own --name.",
        reason="replaced",
    )


def _checked_hello(message: pb.RouterMessage, peer: Peer) -> pb.RouterHello:
    if message.WhichOneof("body") != "hello":
        raise Invalid("the first message of a router must be its hello.")
    hello = message.hello
    check_name("router", hello.name)
    check_speaks_for(peer, hello.name)
    check_text("the router's instance", hello.instance)
    check_url("the router's url", hello.url)
    for address in hello.reverse_address.split(","):  # one for each of its workers
        check_address("the router's reverse address", address)
    if hello.HasField("location"):
        check_location(codec.location_from_proto(hello.location))
    return hello


def _connected(hello: pb.RouterHello, peer: Peer) -> RouterConnected:
    located = hello.HasField("location")
    return RouterConnected(
        name=hello.name,
        instance=hello.instance,
        generation=peer.generation,
        url=hello.url,
        reverse_address=hello.reverse_address,
        location=codec.location_from_proto(hello.location) if located else None,
        software_version=hello.software_version[:64],
        snapshot_version=hello.snapshot_version,
        allow_anonymous=hello.allow_anonymous,
    )


def _counted(hello: pb.RouterHello, counts: pb.Counts) -> RouterCounted:
    """Decode what a router counted; raises Invalid."""
    return RouterCounted(
        name=hello.name,
        instance=hello.instance,
        sequence=counts.sequence,
        counts=codec_rollout.counts_from_proto(counts),
    )


def _reported(hello: pb.RouterHello, status: pb.RouterStatus) -> RouterReported:
    """Decode a status; what is no sane round-trip time counts as not measured."""
    return RouterReported(
        name=hello.name,
        instance=hello.instance,
        requests_total=status.requests_total,
        errors_total=status.errors_total,
        clusters={
            view.cluster: ClusterSeen(
                rtt_ms=view.rtt_ms if math.isfinite(view.rtt_ms) and view.rtt_ms > 0 else 0.0,
                healthy=view.healthy,
                reason=view.reason[:MAX_TEXT],
            )
            for view in status.clusters
        },
        held={each.model: each.requests for each in status.held[:MOST_HELD] if each.requests},
    )
