"""The stream to the control plane: routing snapshots and trust down, status and explanations up.

Input: RouterService.Watch over mutual TLS. Output: tables swapped into the router's state and
written to disk, ACKs and NACKs, a status every few seconds; whom to trust, kept in the credentials.
A stream lives no longer than the certificate it was made with: after a renewal there is a new one.
Losing the stream changes nothing for clients.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec

from federation.contract import codec, codec_rollout, codec_trust
from federation.contract.errors import FederationError, Invalid
from federation.contract.spiffe import control_plane_dns_name
from federation.contract.trust import Trust
from federation.contract.types import Snapshot
from federation.contract.v1 import federation_pb2 as pb
from federation.runtime.backoff import Backoff
from federation.runtime.channel import connect, heed_cancellation
from federation.runtime.version import software_version
from federation.trust.credentials import Credentials, Leaf
from router.membership import tablefile
from router.membership.serving import Serving
from router.policy import table as tables
from router.state import RouterState

log = logging.getLogger(__name__)

SNAPSHOT_FILE = "snapshot.json"
STEADY_S = 30.0
_WATCH = "/federation.contract.v1.RouterService/Watch"
_AT_ONCE = 512  # clusters that a status tells of, before requests have a turn again
# INTERNAL is what grpc makes of a refusal that crosses our first message.
_REFUSALS = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INTERNAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplink:
    """How to reach the control plane, and who we say we are.

    `doubted` is told when the control plane refuses our certificate.
    """

    address: str
    credentials: Credentials
    state_dir: Path
    url: str = ""  # where clients reach this router
    reverse_address: str = ""  # HOST:PORT where agents dial it; "" = it takes none
    doubted: Callable[[], None] = lambda: None
    status_interval_s: float = 2.0
    counts_interval_s: float = 5.0


class Watcher:
    """Keeps the routing table equal to the control plane's."""

    def __init__(self, *, state: RouterState, serving: Serving, uplink: Uplink) -> None:
        self._state = state
        self._serving = serving
        self._uplink = uplink
        self._shown: object = None  # what the stream was made with
        self._scope: asyncio.Timeout | None = None  # ends the stream when that is outdated
        self._heard = asyncio.Event()  # something, on the stream that there is
        self.connected = False

    def __repr__(self) -> str:
        return f"Watcher({self._uplink.address}, connected={self.connected})"

    def load_from_disk(self) -> bool:
        """Route by the snapshot kept on disk; return whether there was a good one."""
        try:
            snapshot = tablefile.load(self._uplink.state_dir / SNAPSHOT_FILE)
            if snapshot is None:
                return False
            self._state.swap(tables.build(snapshot, self._state.reach))
        except Invalid as error:
            log.warning("the snapshot on disk is not used: %s", error.sentence())
            return False
        log.info("routing by snapshot %d from disk", snapshot.version)
        return True

    async def run(self) -> None:
        """Hold a stream, and another one whenever it ends or our credentials change; until
        cancelled. Raises Invalid before this router has joined."""
        changes = self._uplink.credentials.on_change
        changes.append(self._credentials_changed)
        try:
            while True:
                scope = asyncio.timeout(None)
                self._shown, self._scope = self._newest(), scope
                try:
                    async with scope:
                        await self._hold_stream()
                except TimeoutError:
                    if not scope.expired():
                        raise
                    log.info("credentials changed: moving to a new stream")
        finally:
            changes.remove(self._credentials_changed)

    def _newest(self) -> tuple[Leaf, tuple[str, ...]]:
        leaf, trust = self._uplink.credentials.require()
        return leaf, trust.roots

    def _credentials_changed(self) -> None:
        if self._scope and self._newest() != self._shown:
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def _hold_stream(self) -> None:
        """Connect with what we have to show now, and again whenever the stream ends."""
        backoff, failures = Backoff(first_s=0.2, cap_s=5.0), 0
        clock, credentials = self._state.clock, self._uplink.credentials
        _, trust = credentials.require()
        name = control_plane_dns_name(trust.trust_domain)
        shown = credentials.channel_credentials()
        async with connect(self._uplink.address, shown, name) as channel:
            while True:
                started_s = clock.monotonic_s()
                try:
                    await self._stream(channel)
                except grpc.aio.AioRpcError as error:
                    self._note_end(error)
                finally:
                    self.connected = False
                heed_cancellation()
                steady = clock.monotonic_s() - started_s > STEADY_S
                failures = 1 if steady else failures + 1
                await asyncio.sleep(backoff.delay_s(failures, self._state.dice))

    def _note_end(self, error: grpc.aio.AioRpcError) -> None:
        code, details = error.code(), error.details()
        log.warning("no stream to the control plane (%s): %s", code.name, details)
        trailers = dict(error.trailing_metadata() or ())
        if trailers.get("fed-reason") == "certificate-revoked":
            self._state.revoked = True
        if code in _REFUSALS:
            self._uplink.doubted()

    async def _stream(self, channel: grpc.aio.Channel) -> None:
        self._heard.clear()
        outbox: asyncio.Queue[pb.RouterMessage] = asyncio.Queue()
        outbox.put_nowait(pb.RouterMessage(hello=self._hello()))
        urge = partial(self._urge, outbox)
        call = _watch(channel, self._messages(outbox))
        try:
            async for instruction in call:
                self.connected, self._state.revoked = True, False
                if not self._heard.is_set():
                    self._heard.set()
                    self._state.on_demand.append(urge)
                    urge()
                await self._obey(instruction, outbox)
        finally:
            if urge in self._state.on_demand:
                self._state.on_demand.remove(urge)
            call.cancel()

    def _urge(self, outbox: asyncio.Queue[pb.RouterMessage]) -> None:
        """Send a status at once if requests wait for a model that sleeps."""
        if self._state.demand():
            outbox.put_nowait(pb.RouterMessage())

    async def _messages(
        self, outbox: asyncio.Queue[pb.RouterMessage]
    ) -> AsyncIterator[pb.RouterMessage]:
        """Send what is in the outbox, a status and the counts whenever they are due."""
        loop = asyncio.get_running_loop()
        yield await outbox.get()
        status_at = loop.time() + self._uplink.status_interval_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(status_at):
                await self._heard.wait()  # who is refused is not told why while it goes on talking
                status_at = loop.time()
        counts_at = status_at
        while True:
            try:
                async with asyncio.timeout_at(min(status_at, counts_at)):
                    message = await outbox.get()
                if message.WhichOneof("body") is None:  # the wish for a status
                    message = pb.RouterMessage(status=await self.status())
            except TimeoutError:
                if status_at <= counts_at:
                    status_at = loop.time() + self._uplink.status_interval_s
                    message = pb.RouterMessage(status=await self.status())
                else:
                    counts_at = loop.time() + self._uplink.counts_interval_s
                    message = pb.RouterMessage(counts=await self.counts())
            yield message

    async def _obey(
        self, instruction: pb.RouterInstructionParts, outbox: asyncio.Queue[pb.RouterMessage]
    ) -> None:
        match instruction.WhichOneof("body"):
            case "snapshot":
                outbox.put_nowait(await self._apply(instruction.snapshot))
            case "explain":
                outbox.put_nowait(await self._explain(instruction.explain))
            case "trust":
                self._trust(codec_trust.trust_from_proto(instruction.trust))
            case _:
                log.debug("an instruction of a newer control plane is ignored")

    def _trust(self, trust: Trust) -> None:
        """Trust those from now on; connections of who is revoked break in this very call."""
        try:
            self._check(trust)
            if self._uplink.credentials.keep_trust(trust):
                log.info("trusting by version %d", trust.version, extra={"roots": len(trust.roots)})
        except (Invalid, OSError) as error:
            log.error("version %d of whom to trust is not used: %s", trust.version, error)  # noqa: TRY400

    def _check(self, trust: Trust) -> None:
        _, held = self._uplink.credentials.require()
        if trust.trust_domain != held.trust_domain or not trust.roots:
            raise Invalid(f"it is for {trust.trust_domain!r} with {len(trust.roots)} roots.")

    async def _apply(self, data: bytes) -> pb.RouterMessage:
        """Check, swap, keep on disk; return the ACK or the NACK."""
        try:
            snapshot = await self._serving.apply(data)
        except Invalid as error:
            version = pb.SnapshotParts.FromString(data).version
            log.warning("snapshot %d is refused: %s", version, error.sentence())
            nack = pb.SnapshotNack(version=version, reason=error.sentence())
            return pb.RouterMessage(nack=nack)
        await self._keep(snapshot)
        return pb.RouterMessage(ack=pb.SnapshotAck(version=snapshot.version))

    async def _keep(self, snapshot: Snapshot) -> None:
        try:
            path = self._uplink.state_dir / SNAPSHOT_FILE
            await asyncio.to_thread(tablefile.save, path, snapshot)
        except OSError as error:
            log.error("snapshot %d cannot be kept on disk: %s", snapshot.version, error)  # noqa: TRY400

    async def _explain(self, request: pb.ExplainRequest) -> pb.RouterMessage:
        try:
            document = await self._serving.answer(request)
            text = msgspec.json.encode(document).decode()
            answer = pb.Explanation(id=request.id, document_json=text)
        except FederationError as error:
            answer = pb.Explanation(id=request.id, error=error.sentence())
        return pb.RouterMessage(explanation=answer)

    def _hello(self) -> pb.RouterHello:
        state = self._state
        return pb.RouterHello(
            name=state.name,
            instance=state.counting.instance,
            software_version=software_version(),
            url=self._uplink.url,
            location=codec.location_to_proto(state.location),
            snapshot_version=state.table.version if state.table else 0,
            reverse_address=self._uplink.reverse_address,
            allow_anonymous=state.allow_anonymous,
        )

    async def counts(self) -> pb.Counts:
        """Return how the versions of all models did since this router started; requests go on
        between one model and the next."""
        sequence, models = await self._serving.counts()
        whole = pb.Counts(sequence=sequence)
        for counts in models:
            whole.MergeFrom(codec_rollout.counts_to_proto(sequence, counts))
            await asyncio.sleep(0)
        return whole

    async def status(self) -> pb.RouterStatus:
        """Return how this router sees the clusters; there may be thousands, and requests go on."""
        status = pb.RouterStatus(
            requests_total=self._state.requests_total,
            errors_total=self._state.errors_total,
            held=[
                pb.HeldModel(model=model, requests=count)
                for model, count in self._state.demand().items()
            ],
        )
        for number, (name, (rtt_ms, healthy, why)) in enumerate(self._state.health().items(), 1):
            status.clusters.add(cluster=name, rtt_ms=rtt_ms or 0.0, healthy=healthy, reason=why)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return status


def _watch(channel: grpc.aio.Channel, messages: AsyncIterator[pb.RouterMessage]) -> Any:
    """Begin the call, as the generated stub does, but for reading snapshots: see
    `codec_snapshot_reading`."""
    call = channel.stream_stream(
        _WATCH,
        request_serializer=pb.RouterMessage.SerializeToString,
        response_deserializer=pb.RouterInstructionParts.FromString,
    )
    return call(messages)
