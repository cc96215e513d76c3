"""What a router tells Prometheus of its connections, and of what runs in it.

Input: the connections of its clients, and those that agents have made to it, at the moment of the
scrape; the tasks of its event loop. Output: metric families. Cluster names come from certificates
that were verified.
"""

import asyncio
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from federation.relay.connections import Connections
from router.upstream.reverse import ReversePool


class ConnectionCollector:
    """Reads both when a page is asked for; `pool` is None where no agent may connect."""

    def __init__(self, clients: Connections, pool: ReversePool | None) -> None:
        self._clients = clients
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        clients = self._clients
        yield GaugeMetricFamily("fed_router_tasks", "Tasks of the event loop.", value=_tasks())
        yield GaugeMetricFamily(
            "fed_router_client_connections", "Open connections of clients.", value=len(clients)
        )
        yield CounterMetricFamily(
            "fed_router_client_connections_refused",
            "Connections closed at once, since a ceiling was reached.",
            value=clients.refused,
        )
        yield CounterMetricFamily(
            "fed_router_client_connections_cut",
            "Connections reset, since the client did not take what it was sent.",
            value=clients.cut,
        )
        if self._pool is None:
            return
        reversed_ = GaugeMetricFamily(
            "fed_router_reverse_connections",
            "Connections that agents made: idle, lent to a request; and requests that wait.",
            labels=("cluster", "state"),
        )
        for cluster, counts in self._pool.counts().items():
            for state in ("idle", "lent", "waiting"):
                reversed_.add_metric((cluster, state), getattr(counts, state))
        yield reversed_
        yield CounterMetricFamily(
            "fed_router_reverse_connections_refused",
            "Connections of agents that were refused.",
            value=self._pool.refused,
        )


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # no loop: the page is made elsewhere
        return 0
