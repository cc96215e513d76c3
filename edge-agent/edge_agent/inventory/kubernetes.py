"""What a Kubernetes cluster can schedule: nodes, pods and claims, followed by list and watch.

Input: an API server. Output: pools as the scheduler sees them, with the age of the picture and, in
words, what is missing or why it is old. Without an answer the last picture counts, and ages.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from edge_agent.policy.kube.permissions import INVENTORY_NEEDS, Need, missing
from federation.contract.capacity import Capacity
from federation.kube.api import KubeApi, Selection
from federation.kube.errors import Forbidden, KubeError, NotFound, Throttled
from federation.kube.resources import (
    DEVICE_CLASSES,
    NODES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    Resource,
)
from federation.kube.watcher import KubeWatcher, View
from federation.kube.watching import WatchPatience
from federation.runtime.backoff import Dice
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)

RECHECK_S = 300.0  # what is missing may have been granted
TOLD_AFTER_S = 5.0  # shorter interruptions are not worth words
NOT_ENDED = "status.phase!=Succeeded,status.phase!=Failed"
DRA = (RESOURCE_SLICES, RESOURCE_CLAIMS, DEVICE_CLASSES)


class CapacityView(View, Protocol):
    """What turns objects into capacity: `policy.kube.view.KubeView`."""

    def capacity(self) -> Capacity:
        """Return what there is now."""
        ...


@dataclass(frozen=True, slots=True)
class _Plan:
    """What may be followed, and what is missing, in words."""

    selections: tuple[Selection, ...]
    missing: tuple[str, ...]


class KubernetesInventory:
    """Follows one cluster while `run` runs; `read` only looks at what is known."""

    def __init__(
        self,
        api: KubeApi,
        *,
        view: Callable[[], CapacityView],
        clock: Clock,
        dice: Dice,
        patience: WatchPatience | None = None,
    ) -> None:
        self._api = api
        self._make_view = view
        self._clock = clock
        self._dice = dice
        self._patience = patience or WatchPatience()
        self.changed = asyncio.Event()
        self.ready = asyncio.Event()
        self._view: CapacityView | None = None
        self._watcher: KubeWatcher | None = None
        self._last: Capacity | None = None
        self._proven_s = clock.monotonic_s()
        self._missing: tuple[str, ...] = ()
        self._answers: dict[tuple[Resource, str], bool] = {}  # those that have come so far
        self._trouble = "the API server has not answered yet"  # why nothing is followed at all

    def __repr__(self) -> str:
        return f"KubernetesInventory({self._watcher or self._trouble})"

    async def read(self) -> Capacity:
        """Return the picture, how old it is, and why; never raises."""
        reasons = list(self._missing)
        watcher, view = self._watcher, self._view
        if watcher is not None and view is not None:
            proven_s = watcher.proven_s()
            if watcher.settled and proven_s is not None:
                self._last, self._proven_s = view.capacity(), proven_s
            elif self._last is None and not watcher.settled:
                reasons.append(f"not listed yet: {', '.join(watcher.unsettled())}")
            reasons += watcher.reasons(after_s=TOLD_AFTER_S)
        reasons.append(self._trouble)
        age_s = max(0.0, self._clock.monotonic_s() - self._proven_s)
        if self._last is None:
            return Capacity(age_s=age_s, reason=_joined(reasons))
        return replace(
            self._last,
            age_s=age_s,
            observed_at=self._clock.utc() - timedelta(seconds=age_s),
            reason=_joined([*reasons, self._last.reason]),
        )

    async def run(self) -> None:
        """Follow the cluster for ever; connections are closed when it is cancelled."""
        failures, denied = 0, frozenset[Resource]()
        try:
            while True:
                try:
                    plan = await self._plan(denied)
                except KubeError as error:
                    failures += 1
                    self._tell(error.sentence())
                    wait_s = self._patience.broken.delay_s(failures, self._dice)
                    asked_s = error.retry_after_s if isinstance(error, Throttled) else 0.0
                    await asyncio.sleep(max(self._patience.gap_s, wait_s, asked_s))
                    continue
                failures = 0
                self._missing = plan.missing
                for sentence in plan.missing:
                    log.warning("%s", sentence)
                denied = await self._follow(plan)
        finally:
            await self._api.close()

    # ------------------------------------------------------------ parts

    async def _plan(self, denied: frozenset[Resource]) -> _Plan:
        """Ask what we may do; `denied` was refused in spite of the answer."""
        allowed = self._answers
        for need in INVENTORY_NEEDS:
            for verb in need.verbs:
                if (need.resource, verb) not in allowed:
                    yes = need.resource not in denied and await self._may(verb, need)
                    allowed[need.resource, verb] = yes
        served = await self._served()
        self._answers = {}
        seen = [n for n in INVENTORY_NEEDS if all(allowed[n.resource, verb] for verb in n.verbs)]
        follow = {need.resource for need in seen}
        if not follow.issuperset(DRA):  # devices without their claims would all look free
            follow.difference_update(DRA)
        if NODES not in follow:
            follow.clear()
        selections = tuple(
            Selection(
                resource=n.resource,
                fields=NOT_ENDED if n.resource == PODS else "",
                optional=n.resource in DRA,
            )
            for n in INVENTORY_NEEDS
            if n.resource in follow
        )
        return _Plan(selections, tuple(missing(served, allowed)))

    async def _may(self, verb: str, need: Need) -> bool:
        try:
            return await self._api.may(verb, need.resource, namespace=need.namespace)
        except (Forbidden, NotFound):  # this cluster doesn't tell: try
            return True

    async def _served(self) -> Sequence[Need]:
        """Return the needs that make sense here: of kinds that the API server has."""
        try:
            dra = await self._api.serves(RESOURCE_SLICES)
        except Forbidden:
            dra = True
        return [need for need in INVENTORY_NEEDS if dra or need.resource not in DRA]

    async def _follow(self, plan: _Plan) -> frozenset[Resource]:
        """Follow until it is time to ask again what is allowed; returns what was denied."""
        self._tell("" if plan.selections else "nothing of this cluster may be read")
        view = self._make_view()
        watcher = KubeWatcher(
            self._api,
            plan.selections,
            view,
            clock=self._clock,
            dice=self._dice,
            patience=self._patience,
        )
        watcher.on_change = self._note_change
        self._view, self._watcher = view, watcher
        try:
            async with asyncio.timeout(RECHECK_S if plan.missing else None):
                await watcher.run()
        except TimeoutError:
            pass
        return frozenset(watcher.denied)

    def _note_change(self) -> None:
        self.changed.set()
        if self._watcher is not None and self._watcher.settled:
            self.ready.set()

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self.changed.set()
            if trouble:
                self.ready.set()
                log.warning("capacity of Kubernetes: %s", trouble)


def _joined(reasons: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason))
