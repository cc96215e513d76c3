"""AgentService: one stream per edge agent; reports up, assignments and lease renewals down.

Input: the streams of the agents, and assignments from the publisher. Output: AgentConnected,
AgentReported and AgentDisconnected for the control loop, which alone decides; this module only
checks that an agent speaks for its own cluster.
"""

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc.aio

from federation.api.auth import bearer
from federation.api.streams import (
    Outbox,
    authorization,
    check_text,
    check_url,
    first_message,
    run_until_first,
)
from federation.contract import codec
from federation.contract.errors import (
    Conflict,
    FederationError,
    Invalid,
    PermissionDenied,
    Unavailable,
)
from federation.contract.names import check_name
from federation.contract.types import Assignment, Report
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.control_loop import ControlLoop
from federation.identity.tokens import Token, TokenKind, mint, sha256
from federation.policy.events import (
    AgentConnected,
    AgentDisconnected,
    AgentReported,
    Welcomed,
)
from federation.publisher import Closed, Latest, Publisher
from federation.runtime.channel import abort_with

log = logging.getLogger(__name__)

MAX_DEVICES = 10_000
MAX_VERSIONS = 10_000

Context = grpc.aio.ServicerContext[pb.AgentMessage, pb.AgentInstruction]
Sender = Outbox[pb.AgentInstruction]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """One accepted stream."""

    cluster: str
    instance: str
    welcomed: Welcomed
    outbox: Sender


class AgentService(rpc.AgentServiceServicer):
    """Serves the agents; `connected` counts their streams."""

    def __init__(self, *, loop: ControlLoop, publisher: Publisher, report_interval_ms: int) -> None:
        self._loop = loop
        self._publisher = publisher
        self._report_interval_ms = report_interval_ms
        self.connected = 0

    def __repr__(self) -> str:
        return f"AgentService(connected={self.connected})"

    async def Connect(  # type: ignore[override]  # noqa: N802  # a coroutine that writes; the .proto's name
        self, request_iterator: AsyncIterator[pb.AgentMessage], context: Context
    ) -> None:
        """Serve one stream until either side ends it."""
        try:
            token = _agent_token(context)
            hello = _checked_hello(await first_message(request_iterator), token)
            session = await self._welcome(hello, token, Outbox(context))
            self.connected += 1
            try:
                await self._converse(session, request_iterator)
            finally:
                self.connected -= 1
                await self._farewell(session)
        except FederationError as error:
            log.info("agent refused", extra={"reason": error.reason, "detail": error.message})
            await abort_with(context, error)

    async def _welcome(self, hello: pb.AgentHello, token: Token, outbox: Sender) -> _Session:
        credential = mint(TokenKind.AGENT, hello.cluster) if token.kind is TokenKind.JOIN else ""
        welcomed = await self._loop.submit(
            AgentConnected(
                cluster=hello.cluster,
                instance=hello.instance,
                secret_sha256=token.sha256,
                new_credential_sha256=sha256(credential) if credential else "",
                engine=codec.engine_from_proto(hello.engine),
                url=check_url("the agent's url", hello.url),
            )
        )
        if not isinstance(welcomed, Welcomed):
            raise Unavailable("the control plane gave no answer to a hello.")
        welcome = pb.Welcome(
            epoch=welcomed.epoch,
            lease_seconds=welcomed.lease_seconds,
            report_interval_ms=self._report_interval_ms,
            credential=credential if welcomed.joined else "",
            allow_code=welcomed.allow_code,
        )
        await outbox.send(pb.AgentInstruction(welcome=welcome))
        log.info(
            "agent connected",
            extra={
                "cluster": hello.cluster,
                "epoch": welcomed.epoch,
                "joined": welcomed.joined,
                "agent_version": hello.software_version[:64],
            },
        )
        return _Session(
            cluster=hello.cluster, instance=hello.instance, welcomed=welcomed, outbox=outbox
        )

    async def _converse(self, session: _Session, messages: AsyncIterator[pb.AgentMessage]) -> None:
        cluster, epoch = session.cluster, session.welcomed.epoch
        with self._publisher.agent_subscription(cluster, epoch) as assignments:
            self._refuse_if_replaced(session)
            await run_until_first(
                self._receive(session, messages), _send_assignments(session, assignments)
            )

    def _refuse_if_replaced(self, session: _Session) -> None:
        """A newer stream may have come before this one subscribed: it was told nothing then."""
        record = self._loop.state.clusters.get(session.cluster)
        if record is None or record.epoch != session.welcomed.epoch:
            raise Conflict(f"cluster {session.cluster!r} has a newer agent, or was removed.")

    async def _receive(self, session: _Session, messages: AsyncIterator[pb.AgentMessage]) -> None:
        epoch = session.welcomed.epoch
        async for message in messages:
            match message.WhichOneof("body"):
                case "report":
                    report = _checked_report(message.report, session.cluster, epoch)
                    accepted = await self._loop.submit(AgentReported(report=report))
                    if accepted:
                        renewed = pb.LeaseRenewed(epoch=epoch, sequence=report.sequence)
                        await session.outbox.send(pb.AgentInstruction(lease_renewed=renewed))
                case "hello":
                    raise Invalid("a second hello on one stream.", hint="Open a new stream.")
                case _:  # a message of a newer agent
                    continue

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
        try:
            assignment = await assignments.take()
        except Closed as closed:
            raise Conflict(str(closed), reason="replaced") from None


def _agent_token(context: Context) -> Token:
    token = bearer(authorization(context))
    if token.kind not in (TokenKind.JOIN, TokenKind.AGENT):
        raise PermissionDenied(
            f"a token of kind {token.kind.value!r} does not make an agent.",
            hint="Use the join token that `fed cluster register` printed.",
        )
    return token


def _checked_hello(message: pb.AgentMessage, token: Token) -> pb.AgentHello:
    if message.WhichOneof("body") != "hello":
        raise Invalid("the first message of an agent must be its hello.")
    hello = message.hello
    check_name("cluster", hello.cluster)
    check_text("the agent's instance", hello.instance)
    if hello.cluster != token.id:
        raise PermissionDenied(
            f"this token belongs to cluster {token.id!r}, not to {hello.cluster!r}.",
            hint="Start the agent with --cluster and the token of the same cluster.",
        )
    return hello


def _checked_report(message: pb.Report, cluster: str, epoch: int) -> Report:
    """Return the report if the agent speaks for itself; an old epoch is the decider's business."""
    if message.cluster != cluster:
        raise PermissionDenied(
            f"the agent of cluster {cluster!r} reported for {message.cluster[:64]!r}."
        )
    if message.epoch > epoch:
        raise Invalid(f"a report of epoch {message.epoch} came in epoch {epoch}.")
    if len(message.capacity.devices) > MAX_DEVICES:
        raise Invalid(f"a report lists more than {MAX_DEVICES} devices.")
    if len(message.observed.versions) > MAX_VERSIONS:
        raise Invalid(f"a report lists more than {MAX_VERSIONS} model versions.")
    check_url("the agent's url", message.url)
    for version in message.observed.versions:
        check_text("a model's name", version.model)
        check_text("a reason", version.reason)
    return codec.report_from_proto(message)
