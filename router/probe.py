"""Measures the way to each cluster, and notices those that stop answering or come back.

Input: the endpoints of the routing table, and which of them keep requests waiting. Output:
round-trip times and health, told to the signals; requests that wait for a cluster which has just
stopped answering are released to go elsewhere.

A cluster whose answers are overdue is probed at once, and less patiently: who waits for one that
has vanished without a word should not wait for the next round.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from federation.contract.types import Endpoint
from federation.relay.forward import Deadlines, ForwardError, Outgoing, TimedOut
from router.state import RouterState
from router.upstream.http import Upstreams

log = logging.getLogger(__name__)

LIVE, READY = "/v2/health/live", "/v2/health/ready"
_LONGEST_ANSWER = 256 * 1024
_AT_ONCE = 64  # clusters whose probes begin before requests have a turn again
_OWN_DELAY_S = 0.25  # a timeout that is noticed so late tells of this router, not of a cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTimes:
    """How often, and how patiently. `again_s` is the wait after a bad probe. Where answers are
    overdue for `quiet_s`, a probe has `hurry_s` and three round trips, `patience_s` at most; who
    has this is looked up every `look_s`."""

    interval_s: float = 1.0
    again_s: float = 0.5
    patience_s: float = 1.0
    jitter: float = 0.2
    quiet_s: float = 0.3
    hurry_s: float = 0.4
    look_s: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What one probe showed. `silent` means that nothing answered at all; `late`, that this router
    itself was too busy to tell; `loads` are the requests in flight there, by model and version."""

    rtt_ms: float | None = None
    problem: str = ""
    silent: bool = False
    late: bool = False
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
        self._resting: dict[str, asyncio.Event] = {}  # until their next probe, or until it is set
        self._changed = asyncio.Event()
        state.on_swap.append(lambda _: self._changed.set())

    def __repr__(self) -> str:
        return f"Prober({sorted(self._probing)})"

    async def run(self) -> None:
        """Probe until cancelled."""
        self._probing.clear()
        self._resting.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_out(), name="probe what is overdue")
            while True:
                self._changed.clear()
                for number, endpoint in enumerate(self._wanted().values(), 1):
                    if number % _AT_ONCE == 0:
                        await asyncio.sleep(0)
                    if self._probing.get(endpoint.cluster) != endpoint.url:
                        self._probing[endpoint.cluster] = endpoint.url
                        group.create_task(self._keep(endpoint), name=f"probe {endpoint.cluster}")
                await self._changed.wait()

    def _wanted(self) -> dict[str, Endpoint]:
        table = self._state.table
        if table is None:
            return {}
        return {n: e for n, e in table.endpoints.items() if n not in table.unusable}

    def _wants(self, endpoint: Endpoint) -> bool:
        table, cluster = self._state.table, endpoint.cluster
        if table is None or cluster in table.unusable:
            return False
        now = table.endpoints.get(cluster)
        return now is not None and now.url == endpoint.url

    async def _look_out(self) -> None:
        """Have clusters probed at once whose answers are overdue."""
        state, times = self._state, self._times
        while True:
            await asyncio.sleep(times.look_s)
            for cluster in state.signals.overdue(times.quiet_s, state.clock.monotonic_s()):
                if (rest := self._resting.get(cluster)) is not None:
                    rest.set()

    async def _keep(self, endpoint: Endpoint) -> None:
        """Probe one endpoint until the table no longer has it at this URL."""
        cluster, times, measured, excused = endpoint.cluster, self._times, False, False
        patience_s = times.patience_s
        while self._wants(endpoint):
            probed = await self.probe(endpoint, discard=not measured, patience_s=patience_s)
            excused = probed.late and not excused  # once: a busy router must find out, too
            if not excused:
                measured = probed.rtt_ms is not None
                self._tell(endpoint, probed)
            overdue = await self._rest(cluster, bad=bool(probed.problem))
            patience_s = self._hurry_s(cluster) if overdue else times.patience_s
        if self._probing.get(cluster) == endpoint.url:
            del self._probing[cluster]

    async def _rest(self, cluster: str, *, bad: bool) -> bool:
        """Wait for the time of the next probe; return whether its answers are overdue."""
        times, woken = self._times, asyncio.Event()
        wait_s = times.again_s if bad else times.interval_s
        spread = times.jitter * (2 * self._state.dice.random() - 1)
        wait_s *= 1 + spread
        if not bad:  # what answers probes is not asked all the time
            await asyncio.sleep(min(times.quiet_s, wait_s))
            wait_s -= times.quiet_s
        self._resting[cluster] = woken
        try:
            async with asyncio.timeout(max(wait_s, 0.0)):
                await woken.wait()
        except TimeoutError:
            return False
        finally:
            if self._resting.get(cluster) is woken:
                del self._resting[cluster]
        return True

    def _hurry_s(self, cluster: str) -> float:
        rtt_s = (self._state.signals.place(cluster).rtt.ms or 0.0) / 1000
        return min(self._times.hurry_s + 3 * rtt_s, self._times.patience_s)

    async def probe(
        self, endpoint: Endpoint, *, discard: bool = False, patience_s: float | None = None
    ) -> Probed:
        """Measure once; `discard` sends one request before, so that a connection is open."""
        clock = self._state.clock
        patience_s = patience_s or self._times.patience_s
        asked_s = clock.monotonic_s()
        try:
            if discard:
                await self._ask(endpoint, LIVE, patience_s)
            started_s = asked_s = clock.monotonic_s()
            status, body = await self._ask(endpoint, READY, patience_s)
            rtt_ms = (clock.monotonic_s() - started_s) * 1000
        except ForwardError as error:
            timed_out = isinstance(error, TimedOut)
            took_s = clock.monotonic_s() - asked_s
            late = timed_out and took_s > patience_s + _OWN_DELAY_S
            return Probed(problem=str(error), silent=True, late=late)
        if status != 200:
            text = body.decode("utf-8", "replace")[:200]
            return Probed(
                rtt_ms=rtt_ms, problem=f"its gateway is not ready ({status}): {text}".strip(" :")
            )
        return Probed(rtt_ms=rtt_ms, loads=read_loads(body))

    async def _ask(self, endpoint: Endpoint, path: str, patience_s: float) -> tuple[int, bytes]:
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
