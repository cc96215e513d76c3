"""What the gateway counts, for /metrics.

Input: the gateway's requests. Output: a registry that the agent's admin port shows. Labels are only
names that this cluster serves, so that a client cannot make the page grow.
"""

import asyncio

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
        self._series: dict[tuple[Key | None, Verb, str], tuple[Counter, Histogram]] = {}
        registry.register(FlightsCollector(flights))

    def request(self, verb: Verb) -> "Measured":
        """Measure one request, as a context."""
        return Measured(self, verb)

    def ended(self, outcome: Outcome, verb: Verb, ended_s: float, took_s: float) -> None:
        """Count a request that is over, on the clock of the loop."""
        version = outcome.version
        if version and not outcome.refused and verb not in LOOKS:
            self.recent.ended(version, ended_s, took_s)
        key = version, verb, outcome.code
        series = self._series.get(key)
        if series is None:  # the client library takes long to find them
            model, number = version or ("", "")
            series = self._series[key] = (
                self.requests.labels(model, str(number), verb.value, outcome.code),
                self.duration.labels(model, verb.value),
            )
        series[0].inc()
        series[1].observe(took_s)
        if outcome.refused:
            self.refused.labels(outcome.refused).inc()


class Measured:
    """One request, from its head to the end of its answer. No generator, for that costs more than
    what is done here."""

    __slots__ = ("_begun_s", "_metrics", "_now_s", "_outcome", "_verb")

    def __init__(self, metrics: GatewayMetrics, verb: Verb) -> None:
        self._metrics = metrics
        self._verb = verb
        self._outcome = Outcome()
        self._now_s = asyncio.get_running_loop().time
        self._begun_s = self._now_s()

    def __enter__(self) -> Outcome:
        return self._outcome

    def __exit__(self, *_: object) -> None:
        now_s = self._now_s()
        self._metrics.ended(self._outcome, self._verb, now_s, now_s - self._begun_s)
