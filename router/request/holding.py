"""Requests that wait at this router for a model that sleeps.

Input: requests for a version that is loaded nowhere and comes when it is asked for. Output: they go
on as soon as the routing table has a cluster for it; or Asleep, when they are too many or too
large to wait, or when it takes too long. What waits is told to the control plane (see `watch`),
which wakes the model; who leaves gives the place free.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from federation.contract.errors import Unavailable
from federation.relay.http1.waiting import in_task
from router.metrics.requests import Metrics
from router.policy.table import Resolved, RoutingTable
from router.request.call import Call, HoldingLimits
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


Key = tuple[str, int]  # model and version


class HeldPlace:
    """One request that waits. Must be left."""

    __slots__ = ("_holding", "_left", "key", "since_s", "size", "then")

    def __init__(
        self, holding: "Holding", resolved: Resolved, size: int, then: Callable[[], None]
    ) -> None:
        self._holding = holding
        self._left = False
        self.key: Key = resolved.route.name, resolved.version
        self.size = size
        self.then = then
        self.since_s = holding.now_s()

    def __repr__(self) -> str:
        return f"HeldPlace({self.key}, {self.size} bytes)"

    def leave(self) -> float:
        """Give the place back; return how long it was held, 0 if it was left before."""
        if self._left:
            return 0.0
        self._left = True
        return self._holding.left(self)


class Holding:
    """The requests that wait, by model."""

    def __init__(self, *, state: RouterState, metrics: Metrics, limits: HoldingLimits) -> None:
        self._state = state
        self._metrics = metrics
        self._limits = limits
        self._waiting: dict[str, int] = {}
        self._bytes = 0
        self._places: dict[Key, dict[HeldPlace, None]] = {}  # in order
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
        started_s = self._state.clock.monotonic_s()
        left_s = self._limits.hold_s - call.held_s
        if call.own_deadline:
            left_s = call.limits.deadline_s - started_s
        if call.body.rest is not None:
            why = "the body of this request is too large to be kept until then"
            raise self.cannot_wait(resolved, why)
        awake = asyncio.Event()
        place = self.enter(resolved, len(call.body.kept), awake.set)
        try:
            async with asyncio.timeout(max(left_s, 0.0)):
                await awake.wait()
        except TimeoutError:
            raise self.too_long(resolved, call.held_s + left_s) from None
        finally:
            waited_s = place.leave()
            call.held_s += waited_s
        call.failed.clear()  # whoever failed before it slept may be the one who is awake now
        if not call.own_deadline:
            call.limits = replace(call.limits, deadline_s=call.limits.deadline_s + waited_s)

    def enter(self, resolved: Resolved, size: int, then: Callable[[], None]) -> "HeldPlace":
        """Hold a place for a request of so many bytes until it leaves; `then` is called, once, when
        it may be tried again. Raises Asleep, but tells of the demand, when there is no place."""
        model = resolved.route.name
        if why := self._no_place(model, size):
            raise self.cannot_wait(resolved, why)
        known = model in self._waiting or model in self._refused_s
        self._waiting[model] = self._waiting.get(model, 0) + 1
        self._bytes += size
        place = HeldPlace(self, resolved, size, then)
        self._places.setdefault((model, resolved.version), {})[place] = None
        self._metrics.held.labels(model).inc()
        self._metrics.holding.labels(model).inc()
        if not known:
            self._wake(model)
        return place

    def left(self, place: "HeldPlace") -> float:
        """A place is given back; return how long it was held."""
        model, size = place.key[0], place.size
        waited_s = self._state.clock.monotonic_s() - place.since_s
        if (others := self._places.get(place.key)) is not None:
            others.pop(place, None)
            if not others:
                del self._places[place.key]
        self._metrics.hold.observe(waited_s, model)
        self._metrics.holding.labels(model).dec()
        self._bytes -= size
        self._waiting[model] -= 1
        if not self._waiting[model]:
            del self._waiting[model]
        return waited_s

    def at_most_s(self, held_s: float) -> float:
        """Return how much longer a request may wait that has no deadline of its own."""
        return self._limits.hold_s - held_s

    def now_s(self) -> float:
        """Return the time."""
        return self._state.clock.monotonic_s()

    def cannot_wait(self, resolved: Resolved, why: str) -> Asleep:
        """Take note of the demand of a request that is not held, and return its answer."""
        model = resolved.route.name
        known = model in self._waiting or model in self._refused_s
        self._refused_s[model] = self._state.clock.monotonic_s()
        if not known:
            self._wake(model)
        return self._asleep(f"Model {model!r} sleeps and is woken now; {why}.")

    def _no_place(self, model: str, size: int) -> str:
        """Return why a request cannot wait, in words."""
        limits, count = self._limits, sum(self._waiting.values())
        if self._waiting.get(model, 0) >= limits.per_model:
            return f"{limits.per_model} requests wait for it already"
        if count >= limits.total:
            return f"{count} requests wait for models already"
        if self._bytes + size > limits.body_bytes:
            return "there is no memory for the bodies of more requests that wait"
        return ""

    def too_long(self, resolved: Resolved, after_s: float) -> Asleep:
        """Return what a request is told that waited so long in vain."""
        model, why = resolved.route.name, "it is still being loaded"
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
        for key in list(self._places):
            route = table.models.get(key[0])
            if route is None or key[1] not in route.dormant:
                for place in self._places.pop(key):
                    place.then()
        for model in list(self._refused_s):
            route = table.models.get(model)
            if route is None or not route.dormant:
                del self._refused_s[model]
