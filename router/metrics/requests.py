"""What a router counts, for Prometheus.

Input: `proxy` as things happen, and the router's state when a page is asked for. Output: the text
of /metrics. Label values come from the routing table, never from clients.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from federation.runtime.version import software_version
from router.metrics.durations import Durations, Series
from router.metrics.versions import VersionCollector
from router.policy.access import ANONYMOUS
from router.state import RouterState

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 30, 60)
_HOLD_SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
_CLASSES = {number: f"{number}xx" for number in range(1, 6)}


class Tally:
    """Requests of one kind since the last scrape, counted without a lock, and where they go."""

    __slots__ = ("_counters", "durations", "requests", "tokens")

    def __init__(self, counters: tuple[Counter, Counter, Counter], durations: Series) -> None:
        self.requests = 0
        self.tokens = 0
        self.durations = durations
        self._counters = counters  # requests, the tenant's, and the tenant's tokens

    def __repr__(self) -> str:
        return f"Tally({self.requests}, {self.tokens} tokens)"

    def add(self, took_s: float, tokens: int = 0) -> None:
        """Count one request."""
        self.requests += 1
        if tokens:
            self.tokens += tokens
        durations = self.durations
        durations.counts[bisect_left(durations.bounds, took_s)] += 1
        durations.sum_s += took_s

    def pour(self) -> None:
        """Move what was counted to where scrapes see it."""
        requests, self.requests = self.requests, 0
        tokens, self.tokens = self.tokens, 0
        if requests:
            self._counters[0].inc(requests)
            self._counters[1].inc(requests)
        if tokens:
            self._counters[2].inc(tokens)


class Metrics:
    """The counters of one router, in a registry of their own."""

    def __init__(self, state: RouterState) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Pouring(self))  # the first: before the counters are looked at
        self.requests = Counter(
            "fed_router_requests",
            "Requests answered, by what answered; cluster '' = the router itself.",
            ("model", "region", "cluster", "code_class"),
            registry=self.registry,
        )
        self.duration = Durations(
            "fed_router_request_duration_seconds",
            "Time from a request's head to the last byte of its answer.",
            _SECONDS,
            label="model",
        )
        self.registry.register(self.duration)
        self.attempts = Counter(
            "fed_router_attempts",
            "Requests sent to clusters, by how they ended.",
            ("reason",),
            registry=self.registry,
        )
        self.refused = Counter(
            "fed_router_refused",
            "Requests that the router itself refused, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self._tenant_requests = Counter(
            "fed_router_tenant_requests",
            "Requests for clusters, by tenant.",
            ("tenant", "code_class"),
            registry=self.registry,
        )
        self._tenant_tokens = Counter(
            "fed_router_tenant_tokens",
            "Tokens of models that speak text, by tenant: the engines' count, or an estimate.",
            ("tenant",),
            registry=self.registry,
        )
        self._tenants: set[str] = set()  # that have a label
        self._tallies: dict[tuple[str, str, str, str, str], Tally] = {}
        self.answered = 0  # attempts, since the last scrape, as are the next
        self._attempted: dict[str, int] = {}  # other attempts, and those that `count_attempt` got
        self._decided: dict[str, int] = {}
        self.failovers = Counter(
            "fed_router_failovers",
            "Requests answered by another cluster after one failed.",
            registry=self.registry,
        )
        self.hedges = Counter(
            "fed_router_hedges",
            "Late requests that were sent to a second cluster too, by what became of that.",
            ("outcome",),
            registry=self.registry,
        )
        self.not_hedged = Counter(
            "fed_router_hedges_not_sent",
            "How often a late request was looked at and not sent to a second cluster, and why.",
            ("reason",),
            registry=self.registry,
        )
        self.held = Counter(
            "fed_router_held",
            "Requests that had to wait for a model that slept.",
            ("model",),
            registry=self.registry,
        )
        self.holding = Gauge(
            "fed_router_held_requests",
            "Requests that wait for a model that sleeps.",
            ("model",),
            registry=self.registry,
        )
        self.hold = Durations(
            "fed_router_hold_seconds",
            "How long requests waited for a model that slept, whatever became of them.",
            _HOLD_SECONDS,
            label="model",
        )
        self.registry.register(self.hold)
        self.wakes = Counter(
            "fed_router_wake_ups",
            "How often this router asked for a model to be woken.",
            ("model",),
            registry=self.registry,
        )
        self.decision = Durations(
            "fed_router_decision_seconds",
            "Time to choose a cluster.",
            (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2),
        )
        self.registry.register(self.decision)
        self._deciding = self.decision.series("")
        self.decisions = Counter(
            "fed_router_decisions",
            "Choices of a cluster, by reason; more than requests where some are sent again.",
            ("reason",),
            registry=self.registry,
        )
        build = Gauge(
            "fed_build_info", "The running software.", ("role", "version"), registry=self.registry
        )
        build.labels("router", software_version()).set(1)
        self.registry.register(_StateCollector(state))
        self.registry.register(VersionCollector(state.counting))

    def __repr__(self) -> str:
        return f"Metrics({len(list(self.registry.collect()))} families)"

    def count(
        self, by: tuple[str, str, str], tenant: str, status: int, tokens: int, took_s: float
    ) -> None:
        """Count a request; `by` are model, region and cluster that answered it."""
        self.tally(by, tenant, status).add(took_s, tokens)

    def tally(self, by: tuple[str, str, str], tenant: str, status: int) -> Tally:
        """Return where requests of one kind are counted; good until `retain_tenants`."""
        key = (*by, tenant, _CLASSES.get(status // 100, "5xx"))
        found = self._tallies.get(key)
        if found is None:
            self._tenants.add(tenant)
            counters = (
                self.requests.labels(*by, key[4]),
                self._tenant_requests.labels(tenant, key[4]),
                self._tenant_tokens.labels(tenant),
            )
            found = self._tallies[key] = Tally(counters, self.duration.series(by[0]))
        return found

    def count_tenant(self, tenant: str, code_class: str, tokens: int) -> None:
        """Count a request of a tenant that is not counted otherwise."""
        self._tenants.add(tenant)
        self._tenant_requests.labels(tenant, code_class).inc()
        self._tenant_tokens.labels(tenant).inc(tokens)

    def count_attempt(self, ending: str) -> None:
        """Count an attempt by how it ended."""
        self._attempted[ending] = self._attempted.get(ending, 0) + 1

    def count_decision(self, reason: str, took_s: float) -> None:
        """Count a choice of a cluster, by its reason."""
        self._decided[reason] = self._decided.get(reason, 0) + 1
        deciding = self._deciding
        deciding.counts[bisect_left(deciding.bounds, took_s)] += 1
        deciding.sum_s += took_s

    def pour(self) -> None:
        """Move what was counted since the last scrape to where scrapes see it."""
        for tally in self._tallies.values():
            tally.pour()
        attempted, self._attempted = self._attempted, {}
        if self.answered:
            answered, self.answered = self.answered, 0
            attempted["answered"] = attempted.get("answered", 0) + answered
        for ending, count in attempted.items():
            self.attempts.labels(ending).inc(count)
        decided, self._decided = self._decided, {}
        for reason, count in decided.items():
            self.decisions.labels(reason).inc(count)

    def by_tenant(self) -> dict[str, float]:
        """Return how many requests of each tenant there were so far."""
        self.pour()
        found: dict[str, float] = {}
        for family in self._tenant_requests.collect():
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    tenant = sample.labels["tenant"]
                    found[tenant] = found.get(tenant, 0.0) + sample.value
        return found

    def retain_tenants(self, tenants: Collection[str]) -> None:
        """Forget the labels of tenants that are gone."""
        self.pour()
        self._tallies.clear()
        for gone in self._tenants - {*tenants, ANONYMOUS}:
            self._tenants.discard(gone)
            self._tenant_requests.remove_by_labels({"tenant": gone})
            self._tenant_tokens.remove_by_labels({"tenant": gone})

    def page(self) -> bytes:
        """Return the text of /metrics."""
        return generate_latest(self.registry)


class _Pouring:
    """Brings the counters up to date when a page is asked for."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Yield nothing."""
        self._metrics.pour()
        return iter(())


class _StateCollector:
    """Reads the router's state at the moment of the scrape."""

    def __init__(self, state: RouterState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state
        table = state.table
        age_s = state.clock.monotonic_s() - state.table_at_s if table else 0.0
        yield GaugeMetricFamily(
            "fed_router_snapshot_version",
            "Version of the routing snapshot; 0 = none.",
            value=table.version if table else 0,
        )
        yield GaugeMetricFamily(
            "fed_router_snapshot_age_seconds",
            "Time since the snapshot was put to use.",
            value=age_s,
        )
        if state.credentials and (leaf := state.credentials.leaf):
            yield GaugeMetricFamily(
                "fed_router_certificate_expiry_timestamp_seconds",
                "When this router's certificate expires; it is renewed at half its life.",
                value=leaf.facts.not_after.timestamp(),
            )
        healthy = GaugeMetricFamily(
            "fed_router_endpoint_healthy",
            "1 = gets traffic, 0 = ejected.",
            labels=("cluster", "region"),
        )
        rtt = GaugeMetricFamily(
            "fed_router_endpoint_rtt_seconds",
            "Round-trip time as measured by probes.",
            labels=("cluster", "region"),
        )
        for cluster, (rtt_ms, is_healthy, _) in state.health().items():
            labels = (cluster, table.endpoints[cluster].region if table else "")
            healthy.add_metric(labels, float(is_healthy))
            if rtt_ms is not None:
                rtt.add_metric(labels, rtt_ms / 1000)
        yield healthy
        yield rtt
