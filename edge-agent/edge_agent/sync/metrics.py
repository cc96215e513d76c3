"""The figures of the sync side, at the agent's /metrics.

Input: the lanes of the throttle, the shelf, the gate, read when the page is asked for. Output:
families for Prometheus. Labels are few and fixed: no model, no peer.
"""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_agent.sync.syncer import Syncer


class SyncCollector(Collector):
    """Shows what was moved, by where it came from, and what lies on the disk."""

    def __init__(self, syncer: Syncer) -> None:
        self._syncer = syncer

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        figures = self._syncer.figures()
        moved = CounterMetricFamily(
            "fed_agent_sync_bytes",
            "Bytes of packages on the network (origin, peers, given to peers) and reused here.",
            labels=["way"],
        )
        for way, count in figures.moved_bytes.items():
            moved.add_metric([way], count)
        yield moved
        yield CounterMetricFamily(
            "fed_agent_releases_refused",
            "Manifests and releases that were refused.",
            value=figures.releases_refused,
        )
        yield CounterMetricFamily(
            "fed_agent_bad_peers",
            "Clusters that sent wrong bytes, once per package.",
            value=figures.bad_peers,
        )
        yield CounterMetricFamily(
            "fed_agent_scrubbed_bytes",
            "Bytes of packages on the disk that were read again and compared.",
            value=figures.scrubbed.checked_bytes,
        )
        yield CounterMetricFamily(
            "fed_agent_packages_damaged",
            "Packages on the disk that were found damaged, and removed.",
            value=figures.scrubbed.damaged,
        )
        yield GaugeMetricFamily(
            "fed_agent_sync_running", "Versions that are being brought.", value=figures.running
        )
        disk = GaugeMetricFamily(
            "fed_agent_packages_disk_bytes",
            "The disk that holds packages; budget 0 = none.",
            labels=["what"],
        )
        for what in ("used", "free", "budget"):
            disk.add_metric([what], getattr(figures.disk, f"{what}_bytes"))
        yield disk
