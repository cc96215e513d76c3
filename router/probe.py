"""Measures the way to each cluster, and notices those that stop answering or come back.

Input: the endpoints of the routing table. Output: round-trip times and health, told to the signals;
requests that wait for a cluster which has just stopped answering are released to go elsewhere.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from federation.contract.types import Endpoint
from federation.relay.forward import Deadlines, ForwardError, Outgoing
from router.state import RouterState
from router.upstream.http import Upstreams

log = logging.getLogger(__name__)

LIVE, READY = "/v2/health/live", "/v2/health/ready"
_LONGEST_ANSWER = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTimes:
    """How often, and how patiently. `again_s` is the wait after a bad probe."""

    interval_s: float = 1.0
    again_s: float = 0.5
    patience_s: float = 1.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What one probe showed. `silent` means that nothing answered at all; `loads` are the requests
    in flight there, by model and version."""

    rtt_ms: float | None = None
    problem: str = ""
    silent: bool = False
    loads: Mapping[tuple[str, int], int] | None = None  # None = it does not tell


class _Ready(msgspec.Struct):
    """What a gateway says when it is ready; others say other things."""

    load: dict[str, int] | None = None


_READY = msgspec.json.Decoder(_Ready)


def read_loads(body: bytes) -> Mapping[tuple[str, int], int] | None:
    """Return the requests in flight that a gateway tells, by model and version; None = it does not
    (an engine that is asked directly, an older gateway)."""
    try:
        told = _READY.decode(body).load
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if told is None:
        return None
    loads = {}
    for name, count in told.items():
        model, _, version = name.rpartition("@")
        if version.isascii() and version.isdigit() and 0 <= count < 10**6:
            loads[model, int(version[:18])] = count
    return loads


class Prober:
    """Probes every endpoint of the current table, each at a pace of its own."""

    def __init__(
        self, *, state: RouterState, upstreams: Upstreams, times: ProbeTimes | None = None
    ) -> None:
        self._state = state
        self._upstreams = upstreams
        self._times = times or ProbeTimes()
        self._probing: dict[str, str] = {}  # cluster to URL
        self._changed = asyncio.Event()
        state.on_swap.append(lambda _: self._changed.set())

    def __repr__(self) -> str:
        return f"Prober({sorted(self._probing)})"

    async def run(self) -> None:
        """Probe until cancelled."""
        self._probing.clear()
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for endpoint in self._wanted().values():
                    if self._probing.get(endpoint.cluster) != endpoint.url:
                        self._probing[endpoint.cluster] = endpoint.url
                        group.create_task(self._keep(endpoint), name=f"probe {endpoint.cluster}")
                await self._changed.wait()

    def _wanted(self) -> dict[str, Endpoint]:
        table = self._state.table
        if table is None:
            return {}
        return {n: e for n, e in table.endpoints.items() if n not in table.unusable}

    async def _keep(self, endpoint: Endpoint) -> None:
        """Probe one endpoint until the table no longer has it at this URL."""
        cluster, times, measured = endpoint.cluster, self._times, False
        while (now := self._wanted().get(cluster)) is not None and now.url == endpoint.url:
            probed = await self.probe(endpoint, discard=not measured)
            measured = probed.rtt_ms is not None
            self._tell(endpoint, probed)
            wait_s = times.again_s if probed.problem else times.interval_s
            spread = times.jitter * (2 * self._state.dice.random() - 1)
            await asyncio.sleep(wait_s * (1 + spread))
        if self._probing.get(cluster) == endpoint.url:
            del self._probing[cluster]

    async def probe(self, endpoint: Endpoint, *, discard: bool = False) -> Probed:
        """Measure once; `discard` sends one request before, so that a connection is open."""
        clock = self._state.clock
        try:
            if discard:
                await self._ask(endpoint, LIVE)
            started_s = clock.monotonic_s()
            status, body = await self._ask(endpoint, READY)
            rtt_ms = (clock.monotonic_s() - started_s) * 1000
        except ForwardError as error:
            return Probed(problem=str(error), silent=True)
        if status != 200:
            text = body.decode("utf-8", "replace")[:200]
            return Probed(
                rtt_ms=rtt_ms, problem=f"its gateway is not ready ({status}): {text}".strip(" :")
            )
        return Probed(rtt_ms=rtt_ms, loads=read_loads(body))

    async def _ask(self, endpoint: Endpoint, path: str) -> tuple[int, bytes]:
        patience_s = self._times.patience_s
        deadlines = Deadlines(connect_s=patience_s, first_byte_s=patience_s, idle_s=patience_s)
        upstreams, cluster = self._upstreams, endpoint.cluster
        outgoing = Outgoing(method="GET", url=upstreams.base(cluster, endpoint.url) + path)
        async with upstreams.send(cluster, outgoing, deadlines=deadlines, probe=True) as upstream:
            body = await upstream.read(_LONGEST_ANSWER)
            return upstream.status, body or b""

    def _tell(self, endpoint: Endpoint, probed: Probed) -> None:
        state, cluster = self._state, endpoint.cluster
        now_s = state.clock.monotonic_s()
        loads = probed.loads
        if not state.signals.probed(cluster, probed.rtt_ms, probed.problem, now_s, loads):
            return
        released = self._upstreams.give_up(cluster) if probed.silent else 0
        log.warning("cluster %s is ejected: %s", cluster, probed.problem, extra={"moved": released})
