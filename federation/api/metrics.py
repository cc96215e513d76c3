"""The control plane's numbers for Prometheus, read at the moment of a scrape.

Input: the control loop's counters and state, the publisher, the services. Output: the text page of
/metrics, from a registry of its own (two control planes fit into one process).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from federation.api.agents import AgentService
from federation.api.families import counter as _counter
from federation.api.families import gauge as _gauge
from federation.api.metrics_capacity import capacity_families
from federation.api.metrics_rollouts import rollout_families
from federation.api.packs import PackLinks
from federation.api.rollout_journal import RolloutJournal
from federation.api.routers import RouterHub
from federation.api.storecare import Figures
from federation.control_loop import ControlLoop
from federation.policy.standing import room_bytes
from federation.policy.state import State
from federation.policy.sync.sync_view import sync_rows
from federation.publisher import Publisher
from federation.runtime.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the numbers come from; `restarts` counts the restarts of each task,
    `denials` those who were turned away, by reason."""

    loop: ControlLoop
    publisher: Publisher
    agents: AgentService
    hub: RouterHub
    links: PackLinks
    care: Figures
    journal: RolloutJournal
    restarts: Mapping[str, int]
    denials: Mapping[str, int]
    clock: Clock
    version: str


class ControlPlaneMetrics(Collector):
    """Computes all families when asked."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def page(self) -> bytes:
        """Return the page in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the registry need not collect in order to register."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return all families."""
        yield from self._of_process()
        yield from self._of_loop()
        yield from self._of_fleet(self._sources.loop.state)
        yield from capacity_families(self._sources.loop.state, self._sources.clock.utc())
        yield from rollout_families(
            self._sources.loop.state, self._sources.journal, self._sources.clock.utc()
        )
        yield from self._of_sleep(self._sources.loop.state)
        yield from self._of_sync(self._sources.loop.state)
        yield from self._of_store(self._sources.care)

    def _of_process(self) -> Iterable[Metric]:
        sources = self._sources
        yield _gauge("fed_build_info", "The running version.", {(sources.version,): 1}, "version")
        yield _counter(
            "fed_control_plane_task_restarts",
            "Restarts of long-lived tasks after a failure.",
            {(name,): count for name, count in sources.restarts.items()},
            "task",
        )
        for name, told, value in (
            ("fed_control_plane_connected_agents", "Streams of agents.", sources.agents.connected),
            ("fed_control_plane_connected_routers", "Routers connected.", len(sources.hub)),
            (
                "fed_control_plane_snapshot_version",
                "The newest routing snapshot.",
                sources.publisher.snapshot.version,
            ),
        ):
            yield _gauge(name, told, {(): value})

    def _of_loop(self) -> Iterable[Metric]:
        loop = self._sources.loop
        yield _counter(
            "fed_control_plane_events",
            "Events decided.",
            {(name,): count for name, count in loop.events_total.items()},
            "event",
        )
        yield _counter(
            "fed_control_plane_refused",
            "Events refused.",
            {(reason,): count for reason, count in loop.refused_total.items()},
            "reason",
        )
        yield _counter(
            "fed_control_plane_denied",
            "Calls, joins and streams that were turned away; the audit log tells more.",
            {(reason,): count for reason, count in self._sources.denials.items()},
            "reason",
        )
        told = "Transactions of the store."
        yield _counter("fed_control_plane_commits", told, {(): loop.commits_total})
        told = "Duration of the newest batch: decide, commit, publish."
        yield _gauge("fed_control_plane_step_seconds", told, {(): loop.last_step_s})

    def _of_fleet(self, state: State) -> Iterable[Metric]:
        now = self._sources.clock.utc()
        counts = dict.fromkeys(("present", "absent", "never-joined"), 0)
        ages: dict[tuple[str, ...], float] = {}
        for name, record in state.clusters.items():
            presence = state.presences.get(name)
            joined = record.membership.valid
            present = presence is not None and presence.present
            counts["present" if present else "absent" if joined else "never-joined"] += 1
            if presence is not None and presence.reported_at is not None:
                ages[(name,)] = (now - presence.reported_at).total_seconds()
        by_state: dict[tuple[str, ...], float] = {(n,): count for n, count in counts.items()}
        yield _gauge("fed_clusters", "Registered clusters.", by_state, "state")
        told = "Time since the newest report."
        yield _gauge("fed_cluster_report_age_seconds", told, ages, "cluster")

    def _of_sleep(self, state: State) -> Iterable[Metric]:
        """Of deployments that may have no replica at all."""
        asleep: dict[tuple[str, ...], float] = {
            (name,): record.asleep
            for name, record in state.deployments.items()
            if record.spec.scaling.may_sleep
        }
        told = "1 = it has no replica, because nobody uses it."
        yield _gauge("fed_deployment_asleep", told, asleep, "deployment")
        wakes: dict[tuple[str, ...], float] = {(name,): n for name, n in state.wakes.items()}
        told = "How often a deployment that slept was woken by requests."
        yield _counter("fed_deployment_wake_ups", told, wakes, "deployment")

    def _of_sync(self, state: State) -> Iterable[Metric]:
        """Numbers by cluster and source, not by model: their number stays that of the clusters."""
        told = "Bytes of packs that were fetched here, by agents and others."
        yield _counter("fed_control_plane_pack_bytes", told, {(): self._sources.links.sent_bytes})
        bytes_: dict[tuple[str, ...], float] = {}
        running: dict[tuple[str, ...], float] = {(name,): 0 for name in state.clusters}
        behind = dict(running)
        for row in sync_rows(state):
            progress = row.progress
            for source, count in (
                ("origin", progress.from_origin_bytes),
                ("peers", progress.from_peers_bytes),
                ("reused", progress.reused_bytes),
            ):
                key = (row.cluster, source)
                bytes_[key] = bytes_.get(key, 0) + count
            running[(row.cluster,)] += row.running
            behind[(row.cluster,)] += row.behind
        told = "Bytes of the versions that a cluster has or fetches, by where they came from."
        yield _gauge("fed_cluster_synced_bytes", told, bytes_, "cluster", "source")
        told = "Versions of which bytes arrive now."
        yield _gauge("fed_cluster_transfers_running", told, running, "cluster")
        told = "Versions that a cluster shall have and has not whole."
        yield _gauge("fed_cluster_versions_behind", told, behind, "cluster")
        rooms: dict[tuple[str, ...], float] = {}
        for name, record in state.clusters.items():
            if (room := room_bytes(record)) is not None:
                rooms[(name,)] = room
        told = "What packages may take of a cluster's disk, all together."
        yield _gauge("fed_cluster_disk_room_bytes", told, rooms, "cluster")

    def _of_store(self, care: Figures) -> Iterable[Metric]:
        yield _counter(
            "fed_control_plane_store_collections",
            "Collections of garbage; held-back: too much would have gone unasked.",
            {("done",): care.done, ("held-back",): care.held_back, ("failed",): care.failed},
            "outcome",
        )
        told = "Bytes that collections of garbage freed."
        yield _counter("fed_control_plane_store_freed_bytes", told, {(): care.freed_bytes})
        at: dict[tuple[str, ...], float] = {}
        if care.last_at is not None:
            at[()] = care.last_at.timestamp()
        told = "When the store was last free of garbage, in Unix seconds."
        yield _gauge("fed_control_plane_store_collected_timestamp_seconds", told, at)
