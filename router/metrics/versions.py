"""How each version does, for Prometheus.

Input: what `counting` has counted when a page is asked for, and the routing table. Output: families
with as many series as there are versions, by region, that got requests; models that left the table
have none.
"""

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.counting import Counting

_LABELS = ("model", "version", "region", "canary")


class VersionCollector(Collector):
    """Shows the counts of one router."""

    def __init__(self, counting: Counting) -> None:
        self._counting = counting

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        sent = CounterMetricFamily(
            "fed_router_version_attempts",
            "Requests sent to clusters, by the version that they were sent to.",
            labels=_LABELS,
        )
        bad = CounterMetricFamily(
            "fed_router_version_failures",
            "Of these: failed (error), answered 429 or 503 (refused), or beyond the bound of a "
            "rollout (slow).",
            labels=(*_LABELS, "kind"),
        )
        share = GaugeMetricFamily(
            "fed_router_canary_percent",
            "The share of its region's clients that a canary is to get.",
            labels=("model", "version", "region", "rollout"),
        )
        table = self._counting.table
        models = table.models if table is not None else {}
        for (model, version, region), counts in self._counting.counts.items():
            route = models.get(model)
            canary = route.canary if route is not None else None
            is_canary = canary is not None and canary.version == version
            labels = (model, str(version), region, "yes" if is_canary else "no")
            sent.add_metric(labels, sum(counts.requests))
            bad.add_metric((*labels, "error"), sum(counts.errors))
            bad.add_metric((*labels, "refused"), sum(counts.refused))
            bad.add_metric((*labels, "slow"), sum(counts.slow))
        for route in models.values():
            if route.canary is not None:
                number, rollout = str(route.canary.version), route.canary.rollout
                for region, percent in route.canary.weights.items():
                    share.add_metric((route.name, number, region, rollout), percent)
        yield from (sent, bad, share)
