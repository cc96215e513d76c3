"""The workers of a router as one: for the control plane's stream, and for the admin port.

Input: snapshots and questions, of `watch` and `admin`; the crew and its ledger. Output: snapshots
that all workers route by; answers, totals and metrics of all of them together.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from federation.contract.codec_snapshots import SnapshotWriter
from federation.contract.errors import FederationError, Unavailable
from federation.contract.rollout import VersionCounts
from federation.contract.types import Snapshot
from federation.contract.v1 import federation_pb2 as pb
from router.explain import Document
from router.membership.applying import Applier
from router.policy.table import RoutingTable
from router.state import RouterState
from router.workers import frames
from router.workers.crew import Crew


class Gathering:
    """What `watch` and `admin` see of a router with workers (`serving.Serving`,
    `answering.Answering`)."""

    def __init__(self, state: RouterState, crew: Crew) -> None:
        self._state = state
        self._crew = crew
        self._demanded: frozenset[str] = frozenset()
        self._applier = Applier(state)
        self._writer = SnapshotWriter()
        self._coming: tuple[int, bytes] = (0, b"")  # a snapshot's version, and its bytes
        self.newest: frames.Table | None = None  # what workers route by
        self._registry = CollectorRegistry()
        self._registry.register(_Page(crew))
        state.on_swap.append(self._swapped)
        state.demand = crew.ledger.demand
        crew.on_report.append(self._reported)

    def __repr__(self) -> str:
        return f"Gathering({self._crew}, {self.newest})"

    def _swapped(self, table: RoutingTable) -> None:
        """The keeper has another table: so shall the workers."""
        version, data = self._coming
        if version != table.version or not data:
            whole = self._writer.instruction(table.snapshot)
            data = pb.RouterInstructionParts.FromString(whole).snapshot
        number = self.newest.number + 1 if self.newest else 1
        self.newest = frames.Table(number, data)
        self._crew.ledger.retain(table)
        self._crew.tell(self.newest)

    def _reported(self) -> None:
        """Take over totals; tell of models that somebody has just begun to wait for."""
        state, ledger = self._state, self._crew.ledger
        state.requests_total, state.errors_total = ledger.requests, ledger.errors
        demand = ledger.demand().keys()
        new, self._demanded = demand - self._demanded, frozenset(demand)
        if new:
            for tell in list(state.on_demand):
                tell()

    # ------------------------------------------------------------ serving.Serving

    async def apply(self, data: bytes) -> Snapshot:
        """Have all workers route by a snapshot, and return it; raises Invalid."""
        version = pb.SnapshotParts.FromString(data).version
        self._coming = version, data
        try:
            snapshot = await self._applier.apply(data)
        finally:
            self._coming = 0, b""
        await self.settled()
        return snapshot

    async def settled(self) -> None:
        """Return when all workers that live route by the newest table; raises Invalid."""
        if self.newest is not None:
            await self._crew.settled(self.newest.number)

    async def counts(self) -> tuple[int, Iterable[tuple[VersionCounts, ...]]]:
        """Return what all workers counted since this router started."""
        await self._crew.ask("report")
        return self._crew.ledger.report(self._state.table)

    async def answer(self, request: pb.ExplainRequest) -> Document:
        """Answer a question about a decision; raises FederationError."""
        if request.request_id:
            return await self.record(request.request_id)
        given = {"reference": request.model, "address": request.client_address}
        return await self.explain({**given, "client_key": request.client_key})

    # ------------------------------------------------------------ answering.Answering

    def require_ready(self) -> None:
        """Raise Unavailable unless all workers serve."""
        self._crew.require_all()

    async def metrics(self) -> bytes:
        """Return the text of /metrics: of all workers together, and of those that ended."""
        await self._crew.ask("metrics")
        return generate_latest(self._registry)

    async def in_flight(self) -> Mapping[str, int]:
        """Return the requests on their way, by cluster."""
        total: Counter[str] = Counter()
        for answer in await self._crew.ask("in-flight"):
            if isinstance(answer, frames.Answer):
                total.update(msgspec.msgpack.decode(answer.data, type=dict[str, int]))
        return total

    async def record(self, request_id: str) -> Document:
        """Tell what became of a request, whichever worker had it; raises NotFound."""
        return _first(await self._crew.ask("record", {"request": request_id}))

    async def explain(self, given: Mapping[str, str]) -> Document:
        """Tell where a request would go, as one of the workers sees it."""
        return _first(await self._crew.ask("explain", given))


def _first(answers: Sequence[frames.Answer | FederationError]) -> Document:
    """Return the first document; raises the first error if all are errors."""
    for answer in answers:
        if isinstance(answer, frames.Answer):
            document: Document = msgspec.json.decode(answer.data)
            return document
    for error in answers:
        if isinstance(error, FederationError):
            raise error
    raise Unavailable("No worker of this router answers.", hint="Try again in a second.")


class _Page(Collector):
    """The metrics of a crew, and of its workers."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: what there is, workers tell."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        for name, help_, kind, samples in self._crew.ledger.families():
            family = Metric(name, help_, kind)
            for sample, labels, value in samples:
                family.add_sample(sample, labels, value)
            yield family
        yield GaugeMetricFamily(
            "fed_router_workers", "Workers that serve.", value=sum(p.up for p in self._crew.posts)
        )
        yield CounterMetricFamily(
            "fed_router_worker_restarts",
            "How often a worker that ended was started again.",
            value=self._crew.restarts,
        )
