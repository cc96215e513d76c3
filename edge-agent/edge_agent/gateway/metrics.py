"""What the gateway counts, for /metrics.

Input: the gateway's requests. Output: a registry that the agent's admin port shows. Labels are only
names that this cluster serves, so that a client cannot make the page grow.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram

from edge_agent.backends.base import Verb
from edge_agent.gateway.flights import Flights, FlightsCollector, Key
from edge_agent.gateway.recent import Recent
from federation.relay.headers import REFUSED_HEADER
from federation.relay.http1.messages import StreamResponse

LOOKS = frozenset({Verb.METADATA, Verb.READY})  # these ask nothing of the engine's devices
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class Outcome:
    """What became of one request; nothing noted = the client went away.

    `version` is set once the request is for something that this cluster serves.
    """

    def __init__(self) -> None:
        self.version: Key | None = None
        self.code = "gone"
        self.refused = ""

    def response(self, response: StreamResponse) -> None:
        """Note the answer."""
        self.code = str(response.status)
        self.refused = response.headers.get(REFUSED_HEADER, "")


class GatewayMetrics:
    """Counters and histograms of one gateway."""

    def __init__(self, registry: CollectorRegistry, flights: Flights) -> None:
        self.requests = Counter(
            "fed_gateway_requests",
            "Requests answered.",
            ["model", "version", "verb", "code"],
            registry=registry,
        )
        self.refused = Counter(
            "fed_gateway_refused",
            "Requests refused before the engine ran them.",
            ["reason"],
            registry=registry,
        )
        self.doubts = Counter(
            "fed_gateway_doubts",
            "Signs of an engine that is not well.",
            ["model"],
            registry=registry,
        )
        self.duration = Histogram(
            "fed_gateway_request_duration_seconds",
            "From the request's head to the answer's end.",
            ["model", "verb"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.recent = Recent()
        registry.register(FlightsCollector(flights))

    @contextmanager
    def request(self, verb: Verb) -> Iterator[Outcome]:
        """Measure one request."""
        loop, outcome = asyncio.get_running_loop(), Outcome()
        started = loop.time()
        try:
            yield outcome
        finally:
            model, version = outcome.version or ("", "")
            ended = loop.time()
            if outcome.version and not outcome.refused and verb not in LOOKS:
                self.recent.ended(outcome.version, ended, ended - started)
            self.requests.labels(model, str(version), verb.value, outcome.code).inc()
            self.duration.labels(model, verb.value).observe(ended - started)
            if outcome.refused:
                self.refused.labels(outcome.refused).inc()
