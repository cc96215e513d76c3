"""The agent's pages for operators and machines: /metrics, /healthz, /readyz.

Input: the counters and states of the agent's parts, read when a page is asked for. Output: text for
Prometheus, and JSON. Ready means: this cluster can serve what it was assigned, with or without a
control plane, and routers can see who it is.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_agent.board import Board
from edge_agent.identity import Identity
from edge_agent.link import Link
from edge_agent.policy.events import Task
from edge_agent.sync.metrics import SyncCollector
from edge_agent.sync.syncer import Syncer
from edge_agent.worker import Worker
from federation.contract.types import VersionState
from federation.relay.guard import PeerGuard
from federation.runtime.clock import Clock

_LOADS = (Task.LOAD, Task.RESIZE, Task.HEAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the pages tell of."""

    board: Board
    link: Link
    worker: Worker
    syncer: Syncer
    identity: Identity
    guard: PeerGuard
    clock: Clock
    restarts: Mapping[str, int]


class AgentCollector(Collector):
    """Shows the agent's counters at /metrics."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        yield from self._counters()
        yield from self._gauges()

    def _counters(self) -> Iterator[Metric]:
        worker, link = self._parts.worker, self._parts.link
        loads = sum(worker.done[task] for task in _LOADS)
        yield _counter("loads", "Versions loaded at the engine.", loads)
        yield _counter("heals", "Versions unloaded and loaded again.", worker.done[Task.HEAL])
        yield _counter("unloads", "Versions unloaded.", worker.done[Task.UNLOAD])
        yield _counter("warmups", "Warm-up inferences answered.", worker.done[Task.WARM_UP])
        yield _counter("reports", "Reports sent to the control plane.", link.reports)
        yield _counter("link_connects", "Streams that were welcomed.", link.welcomes)
        renewals = self._parts.identity.membership.renewals
        yield _counter("certificate_renewals", "Certificates renewed.", renewals)
        guard = self._parts.guard
        yield _counter("peers_refused", "Requests of peers that may not speak.", guard.refused)
        yield _counter("peers_cut", "Connections of revoked peers cut.", guard.aborted)
        failures = CounterMetricFamily("fed_agent_failures", "Jobs that failed.", labels=["task"])
        for task in Task:
            failures.add_metric([task.value], worker.failed[task])
        yield failures
        restarts = CounterMetricFamily(
            "fed_agent_task_restarts", "Tasks that failed and started again.", labels=["task"]
        )
        for name, count in sorted(self._parts.restarts.items()):
            restarts.add_metric([name], count)
        yield restarts

    def _gauges(self) -> Iterator[Metric]:
        board, link = self._parts.board, self._parts.link
        yield _gauge("link_connected", "Whether the control plane is connected.", link.joined)
        if leaf := self._parts.identity.credentials.leaf:
            yield _gauge(
                "certificate_expiry_timestamp_seconds",
                "When the certificate expires (Unix time).",
                leaf.facts.not_after.timestamp(),
            )
        yield _gauge("epoch", "Epoch of this agent's lease.", link.session.epoch)
        yield _gauge("generation", "Generation of the assignment.", board.generation)
        yield _gauge("engine_ready", "Whether the engine answers.", board.engine.ready)
        healthy = sum(device.healthy for device in board.capacity.devices)
        yield _gauge("devices", "Healthy devices of this cluster.", healthy)
        states = GaugeMetricFamily("fed_agent_versions", "Model versions.", labels=["state"])
        counts = Counter(version.state for version in board.versions)
        for state in VersionState:
            if state is not VersionState.UNKNOWN:
                states.add_metric([state.value], counts[state])
        yield states


class Admin:
    """The application of the admin port."""

    def __init__(self, parts: Parts, registry: CollectorRegistry) -> None:
        self._parts = parts
        self._registry = registry
        registry.register(AgentCollector(parts))
        registry.register(SyncCollector(parts.syncer))

    def application(self) -> web.Application:
        """Return the application to serve."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._live)
        app.router.add_get("/readyz", self._ready)
        return app

    async def _metrics(self, _: web.Request) -> web.Response:
        page = generate_latest(self._registry).decode()
        return web.Response(text=page, content_type="text/plain")

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.Response:
        board, session = self._parts.board, self._parts.link.session
        reason = self._without_identity()
        if reason:
            pass
        elif not board.engine.ready:
            reason = f"The engine is not ready: {board.engine.reason}"
        elif not board.generation and not self._parts.link.joined:
            reason = f"This cluster never heard what to serve: {session.reason or 'not joined yet'}"
        document = {
            "ready": not reason,
            "reason": reason,
            "link": {
                "state": session.state.value,
                "epoch": session.epoch,
                "reason": session.reason,
            },
            "certificate": self._certificate(),
            "engine": {
                "kind": board.engine.kind.value,
                "version": board.engine.version,
                "ready": board.engine.ready,
                "reason": board.engine.reason,
            },
            "generation": board.generation,
            "versions": [
                {"model": v.model, "version": v.version, "state": v.state.value, "reason": v.reason}
                for v in board.versions
            ],
        }
        return web.json_response(document, status=503 if reason else 200)

    def _certificate(self) -> dict[str, str]:
        identity = self._parts.identity
        facts = identity.credentials.leaf.facts if identity.credentials.leaf else None
        return {
            "identity": facts.id.uri if facts else "",
            "notAfter": facts.not_after.isoformat() if facts else "",
            "reason": identity.membership.reason,
        }

    def _without_identity(self) -> str:
        """Return why no router would speak to this gateway, "" if they do."""
        identity = self._parts.identity
        leaf, told = identity.credentials.leaf, identity.membership.reason
        if leaf is None:
            return f"This cluster has not joined yet. {told}".strip()
        if leaf.facts.not_after <= self._parts.clock.utc():
            return f"The certificate expired at {leaf.facts.not_after:%F %T} UTC. {told}".strip()
        return ""


def _counter(name: str, told: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"fed_agent_{name}", told, value=value)


def _gauge(name: str, told: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"fed_agent_{name}", told, value=float(value))
