"""The bridge's pages for operators and machines: /metrics, /healthz, /readyz.

Input: the reconciler and the watcher, read when a page is asked for. Output: text for Prometheus,
and JSON. Ready means: all custom resources are known, and the control plane answers.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from federation.bridge.following import Following
from federation.bridge.reconciler import Reconciler
from federation.cli.documents import look, look_list


class BridgeCollector(Collector):
    """Shows the bridge's counters at /metrics."""

    def __init__(
        self, reconciler: Reconciler, following: Following, restarts: Mapping[str, int]
    ) -> None:
        self._reconciler = reconciler
        self._following = following
        self._restarts = restarts

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        objects = GaugeMetricFamily(
            "fed_bridge_objects",
            "Custom resources, by what their condition Synced says.",
            labels=["kind", "synced"],
        )
        for (kind, synced), count in sorted(self._synced().items()):
            objects.add_metric([kind, synced], count)
        yield objects
        calls = CounterMetricFamily(
            "fed_bridge_calls", "Calls, by whom they were made to.", labels=["to", "outcome"]
        )
        for (end, outcome), count in sorted(self._reconciler.calls.items()):
            calls.add_metric([end, outcome], count)
        yield calls
        reached = self._reconciler.silence is None
        yield _gauge("control_plane_reached", "Whether the control plane answers.", reached)
        age_s = self._following.age_s()
        if age_s is not None:
            told = "How old what is known of the custom resources may be."
            yield _gauge("kubernetes_age_seconds", told, age_s)
        restarts = CounterMetricFamily(
            "fed_bridge_task_restarts", "Tasks that failed and started again.", labels=["task"]
        )
        for name, count in sorted(self._restarts.items()):
            restarts.add_metric([name], count)
        yield restarts

    def _synced(self) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        for custom in self._reconciler.shelf:
            conditions = look_list(custom.status, "conditions")
            told = [look(each, "status") for each in conditions if look(each, "type") == "Synced"]
            found[custom.bridged.resource.kind, str(told[0]) if told else "Unknown"] += 1
        return found


class Admin:
    """The application of the admin port."""

    def __init__(
        self,
        reconciler: Reconciler,
        following: Following,
        registry: CollectorRegistry,
        restarts: Mapping[str, int],
    ) -> None:
        self._reconciler = reconciler
        self._following = following
        self._registry = registry
        registry.register(BridgeCollector(reconciler, following, restarts))

    def application(self) -> web.Application:
        """Return the application to serve."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._live)
        app.router.add_get("/readyz", self._ready)
        return app

    async def _metrics(self, _: web.Request) -> web.Response:
        page = generate_latest(self._registry)
        return web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.Response:
        reasons = self._following.reasons()
        if (silence := self._reconciler.silence) is not None:
            reasons.append(silence.message)
        body = {"ready": not reasons, "reasons": reasons}
        return web.json_response(body, status=503 if reasons else 200)


def _gauge(name: str, told: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"fed_bridge_{name}", told, value=value)
