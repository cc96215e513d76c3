"""Requests that wait at this router for a model that sleeps.

Input: requests for a version that is loaded nowhere and comes when it is asked for. Output: they go
on as soon as the routing table has a cluster for it; or Asleep, when they are too many or too
large to wait, or when it takes too long. What waits is told to the control plane (see `watch`),
which wakes the model; who leaves gives the place free.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from federation.contract.errors import Unavailable
from federation.relay.http1.waiting import in_task
from router.call import Call, HoldingLimits
from router.metrics import Metrics
from router.policy.table import Resolved, RoutingTable
from router.state import RouterState

RETRY_AFTER_S = 5  # a model is not awake sooner
_FRESH_S = 10.0  # so long a request that could not wait counts as demand


class Asleep(Unavailable):
    """The model sleeps, and the request cannot wait for it (any longer)."""

    reason = "asleep"


def sleeps(resolved: Resolved) -> bool:
    """Whether a version is loaded nowhere, and comes when it is asked for."""
    return resolved.version in resolved.route.dormant


def why_asleep(resolved: Resolved) -> str:
    """Say what becomes of a request for a version that sleeps."""
    what = f"Version {resolved.version} of {resolved.route.name!r}"
    return f"{what} sleeps, since nobody used it: a request wakes it, and waits here meanwhile."


class Holding:
    """The requests that wait, by model."""

    def __init__(self, *, state: RouterState, metrics: Metrics, limits: HoldingLimits) -> None:
        self._state = state
        self._metrics = metrics
        self._limits = limits
        self._waiting: dict[str, int] = {}
        self._bytes = 0
        self._awake: dict[tuple[str, int], asyncio.Event] = {}  # by model and version
        self._refused_s: dict[str, float] = {}  # models that others could not wait for, since when
        state.on_swap.append(self._look)
        state.demand = self.demand

    def __repr__(self) -> str:
        return f"Holding({sum(self._waiting.values())} of {self._limits.total}, {self._waiting})"

    def demand(self) -> Mapping[str, int]:
        """Return the models that are asked for and sleep, with the requests that wait (at least
        1: those that could not wait count as well, for a while)."""
        oldest = self._state.clock.monotonic_s() - _FRESH_S
        self._refused_s = {m: at for m, at in self._refused_s.items() if at >= oldest}
        return dict.fromkeys(self._refused_s, 1) | self._waiting

    async def wait(self, call: Call, resolved: Resolved) -> None:
        """Return when it may be tried again to choose a cluster; raises Asleep.

        The time counts as none of the deadline that clusters have, unless that is the client's.
        """
        await in_task()
        model, started_s = resolved.route.name, self._state.clock.monotonic_s()
        left_s = self._limits.hold_s - call.held_s
        if call.own_deadline:
            left_s = call.limits.deadline_s - started_s
        with self._place(call, resolved) as awake:
            try:
                async with asyncio.timeout(max(left_s, 0.0)):
                    await awake.wait()
            except TimeoutError:
                raise self._too_long(model, call.held_s + left_s) from None
            finally:
                waited_s = self._state.clock.monotonic_s() - started_s
                call.held_s += waited_s
                self._metrics.hold.observe(waited_s, model)
        call.failed.clear()  # whoever failed before it slept may be the one who is awake now
        if not call.own_deadline:
            call.limits = replace(call.limits, deadline_s=call.limits.deadline_s + waited_s)

    def cannot_wait(self, resolved: Resolved, why: str) -> Asleep:
        """Take note of the demand of a request that is not held, and return its answer."""
        model = resolved.route.name
        known = model in self._waiting or model in self._refused_s
        self._refused_s[model] = self._state.clock.monotonic_s()
        if not known:
            self._wake(model)
        return self._asleep(f"Model {model!r} sleeps and is woken now; {why}.")

    @contextmanager
    def _place(self, call: Call, resolved: Resolved) -> Iterator[asyncio.Event]:
        """Hold a place; raises Asleep, but tells of the demand, when there is none."""
        model = resolved.route.name
        size = len(call.body.kept)
        if why := self._no_place(call, model, size):
            raise self.cannot_wait(resolved, why)
        known = model in self._waiting or model in self._refused_s
        self._waiting[model] = self._waiting.get(model, 0) + 1
        self._bytes += size
        if not known:
            self._wake(model)
        self._metrics.held.labels(model).inc()
        self._metrics.holding.labels(model).inc()
        try:
            yield self._awake.setdefault((model, resolved.version), asyncio.Event())
        finally:
            self._metrics.holding.labels(model).dec()
            self._bytes -= size
            self._waiting[model] -= 1
            if not self._waiting[model]:
                del self._waiting[model]

    def _no_place(self, call: Call, model: str, size: int) -> str:
        """Return why a request cannot wait, in words."""
        limits, count = self._limits, sum(self._waiting.values())
        if call.body.rest is not None:
            return "the body of this request is too large to be kept until then"
        if self._waiting.get(model, 0) >= limits.per_model:
            return f"{limits.per_model} requests wait for it already"
        if count >= limits.total:
            return f"{count} requests wait for models already"
        if self._bytes + size > limits.body_bytes:
            return "there is no memory for the bodies of more requests that wait"
        return ""

    def _too_long(self, model: str, after_s: float) -> Asleep:
        why = "it is still being loaded"
        if not self._state.on_demand:
            why = "the control plane, which wakes it, is out of contact"
        what = f"Model {model!r} sleeps and was not awake after {after_s:.0f} s"
        return self._asleep(f"{what}: {why}.")

    def _asleep(self, message: str) -> Asleep:
        return Asleep(message, hint=f"Try again in {RETRY_AFTER_S} seconds.")

    def _wake(self, model: str) -> None:
        self._metrics.wakes.labels(model).inc()
        for tell in list(self._state.on_demand):
            tell()

    def _look(self, table: RoutingTable) -> None:
        """Let those go on whose version does not sleep any more, or is gone."""
        for key in list(self._awake):
            route = table.models.get(key[0])
            if route is None or key[1] not in route.dormant:
                self._awake.pop(key).set()
        for model in list(self._refused_s):
            route = table.models.get(model)
            if route is None or not route.dormant:
                del self._refused_s[model]
