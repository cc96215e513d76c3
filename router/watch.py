"""The stream to the control plane: routing snapshots down, status and explanations up.

Input: RouterService.Watch. Output: tables swapped into the router's state and written to disk, ACKs
and NACKs, a status every few seconds. Losing the stream changes nothing for clients.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import grpc
import grpc.aio
import msgspec

from federation.contract import codec
from federation.contract.errors import FederationError, Invalid
from federation.contract.types import Snapshot
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1.federation_pb2_grpc import RouterServiceStub
from federation.runtime.backoff import Backoff
from federation.runtime.channel import connect
from router import tablefile
from router.policy import table as tables
from router.state import RouterState

log = logging.getLogger(__name__)

SNAPSHOT_FILE = "snapshot.json"
STEADY_S = 30.0
Explainer = Callable[[str, str], dict[str, object]]  # of a model and a client's address


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplink:
    """How to reach the control plane, and who we say we are."""

    address: str
    token: str
    url: str  # where clients reach this router
    state_dir: Path | None
    status_interval_s: float = 2.0


class Watcher:
    """Keeps the routing table equal to the control plane's."""

    def __init__(self, *, state: RouterState, explain: Explainer, uplink: Uplink) -> None:
        self._state = state
        self._explainer = explain
        self._uplink = uplink
        self._instance = uuid4().hex
        self.connected = False

    def __repr__(self) -> str:
        return f"Watcher({self._uplink.address}, connected={self.connected})"

    def load_from_disk(self) -> bool:
        """Route by the snapshot kept on disk; return whether there was a good one."""
        if self._uplink.state_dir is None:
            return False
        try:
            snapshot = tablefile.load(self._uplink.state_dir / SNAPSHOT_FILE)
            if snapshot is None:
                return False
            self._state.swap(tables.build(snapshot))
        except Invalid as error:
            log.warning("the snapshot on disk is not used: %s", error.sentence())
            return False
        log.info("routing by snapshot %d from disk", snapshot.version)
        return True

    async def run(self) -> None:
        """Connect, and connect again whenever the stream ends; until cancelled."""
        backoff, failures = Backoff(first_s=0.2, cap_s=5.0), 0
        clock = self._state.clock
        async with connect(self._uplink.address) as channel:
            while True:
                started_s = clock.monotonic_s()
                try:
                    await self._stream(channel)
                except grpc.aio.AioRpcError as error:
                    log.warning(
                        "no stream to the control plane (%s): %s",
                        error.code().name,
                        error.details(),
                    )
                finally:
                    self.connected = False
                steady = clock.monotonic_s() - started_s > STEADY_S
                failures = 1 if steady else failures + 1
                await asyncio.sleep(backoff.delay_s(failures, self._state.dice))

    async def _stream(self, channel: grpc.aio.Channel) -> None:
        outbox: asyncio.Queue[pb.RouterMessage] = asyncio.Queue()
        outbox.put_nowait(pb.RouterMessage(hello=self._hello()))
        metadata = (("authorization", f"Bearer {self._uplink.token}"),)
        call = RouterServiceStub(channel).Watch(self._messages(outbox), metadata=metadata)
        try:
            async for instruction in call:
                self.connected = True
                await self._obey(instruction, outbox)
        finally:
            call.cancel()

    async def _messages(
        self, outbox: asyncio.Queue[pb.RouterMessage]
    ) -> AsyncIterator[pb.RouterMessage]:
        """Send what is in the outbox, and a status whenever it was quiet for the interval."""
        loop = asyncio.get_running_loop()
        status_at = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(status_at):
                    message = await outbox.get()
            except TimeoutError:
                status_at = loop.time() + self._uplink.status_interval_s
                message = pb.RouterMessage(status=self.status())
            yield message

    async def _obey(
        self, instruction: pb.RouterInstruction, outbox: asyncio.Queue[pb.RouterMessage]
    ) -> None:
        match instruction.WhichOneof("body"):
            case "snapshot":
                outbox.put_nowait(
                    await self._apply(codec.snapshot_from_proto(instruction.snapshot))
                )
            case "explain":
                outbox.put_nowait(self._explain(instruction.explain))
            case _:
                log.debug("an instruction of a newer control plane is ignored")

    async def _apply(self, snapshot: Snapshot) -> pb.RouterMessage:
        """Check, swap, keep on disk; return the ACK or the NACK."""
        try:
            self._swap(snapshot)
        except Invalid as error:
            log.warning("snapshot %d is refused: %s", snapshot.version, error.sentence())
            nack = pb.SnapshotNack(version=snapshot.version, reason=error.sentence())
            return pb.RouterMessage(nack=nack)
        await self._keep(snapshot)
        return pb.RouterMessage(ack=pb.SnapshotAck(version=snapshot.version))

    def _swap(self, snapshot: Snapshot) -> None:
        held = self._state.table.version if self._state.table else 0
        if snapshot.version < held:
            raise Invalid(f"Snapshot {snapshot.version} is older than {held}, which is in use.")
        self._state.swap(tables.build(snapshot))

    async def _keep(self, snapshot: Snapshot) -> None:
        if self._uplink.state_dir is None:
            return
        try:
            path = self._uplink.state_dir / SNAPSHOT_FILE
            await asyncio.to_thread(tablefile.save, path, snapshot)
        except OSError as error:
            log.error("snapshot %d cannot be kept on disk: %s", snapshot.version, error)  # noqa: TRY400

    def _explain(self, request: pb.ExplainRequest) -> pb.RouterMessage:
        try:
            document = self._explainer(request.model, request.client_address)
            text = msgspec.json.encode(document).decode()
            answer = pb.Explanation(id=request.id, document_json=text)
        except FederationError as error:
            answer = pb.Explanation(id=request.id, error=error.sentence())
        return pb.RouterMessage(explanation=answer)

    def _hello(self) -> pb.RouterHello:
        state = self._state
        return pb.RouterHello(
            name=state.name,
            instance=self._instance,
            software_version=version("inference-federation"),
            url=self._uplink.url,
            location=codec.location_to_proto(state.location),
            snapshot_version=state.table.version if state.table else 0,
        )

    def status(self) -> pb.RouterStatus:
        """Return how this router sees the clusters."""
        return pb.RouterStatus(
            clusters=[
                pb.ClusterView(cluster=name, rtt_ms=rtt_ms or 0.0, healthy=healthy, reason=reason)
                for name, (rtt_ms, healthy, reason) in self._state.health().items()
            ],
            requests_total=self._state.requests_total,
            errors_total=self._state.errors_total,
        )
