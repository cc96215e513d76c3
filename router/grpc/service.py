"""V2 gRPC at the router: what all calls share.

Input: the router's state and upstreams. Output: a Service for the switch, which makes a Handler for
each call, and a Backend for each cluster, with connections from the same place as HTTP's.
"""

import asyncio

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from federation.contract.types import Location
from federation.relay.failures import ConnectFailed
from federation.relay.h2.backend import Backend
from federation.relay.h2.heads import AnswerReader, RequestHead, RequestReader
from federation.relay.h2.service import Handler, SwitchLimits
from federation.relay.h2.switch import Switch
from federation.relay.headers import HOP_BY_HOP, LOAD_HEADER, OUTCOME_HEADER, REFUSED_HEADER
from federation.relay.transport import Dialler, Inbound, ProtocolFactory
from router.grpc.asking import Ids
from router.grpc.callers import NOTED, Callers
from router.grpc.handler import RouterCall
from router.grpc.ways import Ways
from router.policy.table import RoutingTable
from router.request.call import DEADLINE_HEADER, SESSION_HEADER
from router.request.hedge import Hedges
from router.request.shared import Shared
from router.request.steps import Steps
from router.upstream.http import Upstreams

_MOST_PLACES = 4096
PASSES = (
    b"te",
    b"content-type",
    b"user-agent",
    b"traceparent",
    b"tracestate",
    b"x-session-id",
    b"triton_grpc_error",
)
PREFIXES = (b"grpc-",)
_NOTES = (
    *NOTED,
    b"x-request-id",
    b"x-federation-replay",
    b"x-forwarded-for",
    DEADLINE_HEADER.encode(),
    SESSION_HEADER.encode(),
)
_APART = (b"x-request-id", b"traceparent", b"tracestate")
_ANSWER_NOTES = tuple(name.encode() for name in (LOAD_HEADER, REFUSED_HEADER, OUTCOME_HEADER))
_ANSWER_CUT = (
    *(name.encode() for name in HOP_BY_HOP),
    *(b"alt-svc", b"date", b"server", b"set-cookie", b"strict-transport-security"),
    b"x-request-id",
)


class GrpcService:
    """Decides for all gRPC calls of a router. `switch` is what takes connections over."""

    def __init__(self, shared: Shared, *, limits: SwitchLimits | None = None) -> None:
        self.shared = shared
        self.state = shared.state
        self.callers = Callers(shared.state)
        self.ids = Ids()
        self.now_s = shared.state.clock.monotonic_s
        self.ways = Ways(shared.state)
        self.steps = Steps(state=shared.state, metrics=shared.metrics, locator=shared.locator)
        self.hedges = Hedges(state=shared.state, metrics=shared.metrics)  # as many as HTTP leaves
        self.requests = RequestReader(passes=PASSES, notes=_NOTES, prefixes=PREFIXES, apart=_APART)
        self.answers = AnswerReader(
            cut=_ANSWER_CUT, notes=_ANSWER_NOTES, prefixes=(b"x-fed-",), tail=LOAD_HEADER.encode()
        )
        limits = limits or SwitchLimits(
            replay_bytes=shared.limits.replay_bytes,
            connect_s=shared.limits.connect_s,
            stall_s=shared.limits.stall_s,
            memory_bytes=shared.limits.grpc_bytes,
        )
        most, replayed = shared.limits.body.max_bytes, limits.replay_bytes
        self.most_bytes = min(most, replayed)  # of a call that goes the short way
        self.switch = Switch(self, limits=limits, now=shared.state.clock.monotonic_s)
        self._backends: dict[str, tuple[str, Backend]] = {}  # by cluster, with its URL
        self._places: dict[tuple[str, tuple[bytes, ...]], Location | None] = {}
        shared.state.on_swap.append(self._follow)
        shared.upstreams.on_give_up.append(self.give_up)
        shared.metrics.registry.register(GrpcCollector(self.switch))

    def __repr__(self) -> str:
        return f"GrpcService({self.switch}, {[b for _, b in self._backends.values()]})"

    def open(self, head: RequestHead, inbound: Inbound | None) -> Handler:
        """Return who decides for a call."""
        return RouterCall(self, head, inbound)

    def backend(self, cluster: str, url: str) -> Backend:
        """Return where calls for a cluster go; `url` as the table has it, "" = reversed."""
        known = self._backends.get(cluster)
        if known is None or known[0] != url:
            if known is not None:
                self.switch.drop(known[1])
            dialler = ClusterDialler(self.shared.upstreams, cluster, url)
            known = self._backends[cluster] = url, self.switch.backend(cluster, dialler)
        return known[1]

    def location_of(self, remote: str, forwarded: tuple[bytes, ...]) -> Location | None:
        """Return where a client is, as far as its address tells."""
        key = remote, forwarded
        if key not in self._places:
            if len(self._places) >= _MOST_PLACES:
                self._places.clear()
            locator = self.shared.locator
            through = [value.decode("latin-1") for value in forwarded]
            place = locator.locate(locator.client_address(remote, through))
            self._places[key] = place.location if place else None
        return self._places[key]

    def give_up(self, cluster: str) -> int:
        """End all calls that wait for a first byte of a cluster; return how many."""
        known = self._backends.get(cluster)
        return known[1].give_up("it stopped answering probes") if known else 0

    def _follow(self, table: RoutingTable) -> None:
        """Let go of clusters that left or are reached otherwise."""
        for cluster, (url, backend) in list(self._backends.items()):
            endpoint = table.endpoints.get(cluster)
            if endpoint is None or endpoint.url != url:
                del self._backends[cluster]
                self.switch.drop(backend)


class ClusterDialler:
    """Connections to one cluster, made as the newest credentials say."""

    def __init__(self, upstreams: Upstreams, cluster: str, url: str) -> None:
        self._upstreams = upstreams
        self._cluster = cluster
        self._url = url
        self._made: dict[asyncio.Transport, Dialler] = {}

    def __repr__(self) -> str:
        return f"ClusterDialler({self._cluster})"

    async def connect(
        self, protocol_factory: ProtocolFactory, *, connect_s: float
    ) -> asyncio.Transport:
        """Return a connection with the caller's protocol on it; raises ForwardError."""
        dialler = self._upstreams.dialler(self._cluster, self._url)
        made = await dialler.connect(protocol_factory, connect_s=connect_s)
        self._made = {t: d for t, d in self._made.items() if not t.is_closing()}
        self._made[made] = dialler
        return made

    def usable(self, transport: asyncio.Transport) -> bool:
        """Return whether another call may go out on a connection."""
        dialler = self._made.get(transport)
        try:
            newest = self._upstreams.dialler(self._cluster, self._url)
        except ConnectFailed:
            return False
        # One that is being made is not noted yet: it was found usable as it was made.
        return dialler is None or (dialler is newest and dialler.usable(transport))


class GrpcCollector(Collector):
    """Shows the switch at /metrics."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    def collect(self) -> "list[Metric]":
        """Return the families."""
        counts = self._switch.counts
        clients = GaugeMetricFamily(
            "fed_router_grpc_connections", "Open HTTP/2 connections of clients."
        )
        clients.add_metric([], len(self._switch.clients))
        running = GaugeMetricFamily("fed_router_grpc_in_flight", "gRPC calls on their way.")
        running.add_metric([], self._switch.streams)
        held = GaugeMetricFamily(
            "fed_router_grpc_held_bytes", "Bytes of gRPC calls that wait here to be sent on."
        )
        held.add_metric([], self._switch.memory.held)
        broken = CounterMetricFamily(
            "fed_router_grpc_broken_connections",
            "HTTP/2 connections that were ended for what the far end did.",
            labels=("side",),
        )
        broken.add_metric(["client"], counts.broken_clients)
        broken.add_metric(["cluster"], counts.broken_upstreams)
        cancelled = CounterMetricFamily(
            "fed_router_grpc_cancelled", "gRPC calls that their client gave up."
        )
        cancelled.add_metric([], counts.cancelled)
        return [clients, running, held, broken, cancelled]
