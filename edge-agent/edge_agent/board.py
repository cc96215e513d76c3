"""What the agent's loop shows: to the gateway (who is served), the link (reports), the admin pages.

Input: written by the loop, the engine's poll and the inventory's watch, in one thread. Output:
plain values, read at any time.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from edge_agent.gateway.gateway import ServedVersion
from edge_agent.gateway.recent import Figures
from edge_agent.policy.events import Key
from federation.contract.capacity import Calibration, Capacity
from federation.contract.rollout import GoldenResult
from federation.contract.sync import SyncProgress
from federation.contract.types import EngineKind, EngineStatus, Observed, ObservedVersion


class Board:
    """The newest values; each is replaced whole."""

    def __init__(self, kind: EngineKind) -> None:
        self.engine = EngineStatus(kind=kind, reason="it was not asked yet")
        self.capacity = Capacity()
        self._capacity_s = 0.0  # when it was shown
        self.knows_devices = False  # whether it was shown at all
        self.generation = 0
        self.versions: tuple[ObservedVersion, ...] = ()
        self.served: dict[Key, ServedVersion] = {}
        self.queued: Mapping[Key, int] = {}  # what waits in the engine, where that is known

    def __repr__(self) -> str:
        states = ", ".join(f"{v.model}@{v.version} {v.state}" for v in self.versions)
        return f"Board(generation={self.generation}, {states or 'nothing'})"

    def show(self, generation: int, versions: tuple[ObservedVersion, ...]) -> None:
        """Replace what is known of the versions."""
        self.generation, self.versions = generation, versions
        self.served = {(v.model, v.version): ServedVersion(v.state, v.protocol) for v in versions}

    def show_capacity(self, capacity: Capacity, now_s: float) -> None:
        """Replace what is known of the devices; `now_s` by a monotonic clock."""
        self.capacity, self._capacity_s = capacity, now_s
        self.knows_devices = True

    def capacity_at(self, now_s: float) -> Capacity:
        """Return what is known of the devices, as old as it is by now."""
        return replace(self.capacity, age_s=self.capacity.age_s + now_s - self._capacity_s)

    def observed(
        self,
        in_flight: Callable[[str, int], int],
        recent: Callable[[str, int], Figures] = lambda _model, _version: Figures(),
        progress: Callable[[str, int], SyncProgress | None] = lambda _model, _version: None,
        measured: Callable[[ObservedVersion], Calibration | None] = lambda _version: None,
        golden: Callable[[ObservedVersion], GoldenResult | None] = lambda _version: None,
    ) -> Observed:
        """Return all for a report, with requests, figures, transfers and
        measurements of now."""
        return Observed(
            observed_generation=self.generation,
            engine=self.engine,
            versions=tuple(
                replace(
                    v,
                    in_flight=in_flight(v.model, v.version),
                    queued=self.queued.get((v.model, v.version)),
                    rate=figures.rate,
                    latency_ms=figures.latency_ms,
                    sync=progress(v.model, v.version),
                    calibration=measured(v),
                    golden=golden(v),
                )
                for v in self.versions
                for figures in (recent(v.model, v.version),)
            ),
        )
