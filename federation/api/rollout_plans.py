"""What a rollout would do: waves, what would travel, how long it takes, where capacity is missing.

Input: a rollout to start, as for a POST of it. Output: a plan. It is decided on a copy of the
state: nothing is kept, so whoever may read may ask.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiohttp import web

from federation.api.bodies import read_body, reply
from federation.api.plans import PlannedRegion, manifests_of, place_of, regions_of
from federation.api.rollouts import RolloutStart
from federation.api.route import Route, actor, needs
from federation.artifacts.base import ArtifactStore
from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.types import Manifest
from federation.control_loop import ControlLoop
from federation.policy.access.roles import Verb
from federation.policy.events import Applied
from federation.policy.plan import PlanRow
from federation.policy.rollouts.events import RolloutApplied
from federation.policy.rollouts.rollout_plan import PlannedAt, RolloutPlan, rollout_plan
from federation.runtime.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCanary:
    """The new version at one cluster. `fit` is beside, in place or cannot; `missing` replicas do
    not serve while it comes. `bytes` travel there; `exact` is False where that is the size of the
    whole version; `eta_s` is None where nobody knows how fast the cluster fetches."""

    wave: int
    cluster: str
    region: str
    fit: str
    replicas: int
    missing: int
    reason: str
    bytes: int
    exact: bool
    eta_s: float | None
    assumes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlanAnswer:
    """What a rollout would do. `least_s` is how long its steps bake, all together, at least."""

    rollout: str
    model: str
    stable: int
    canary: int
    waves: int
    approvals: tuple[int, ...]
    least_s: float
    clusters: tuple[PlannedCanary, ...]
    regions: tuple[PlannedRegion, ...]
    notes: tuple[str, ...]


class RolloutPlans:
    """The handler of /api/v1/plan/rollout."""

    def __init__(self, loop: ControlLoop, store: ArtifactStore, clock: Clock) -> None:
        self._loop = loop
        self._store = store
        self._clock = clock

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="POST",
                path="/api/v1/plan/rollout",
                summary="Tell what a rollout would do, and change nothing",
                handler=self._plan,
                needs=needs(Verb.READ, "Plan", ""),
                body=RolloutStart,
                answer=RolloutPlanAnswer,
                errors=(Invalid, NotFound, Conflict),
            )
        ]

    async def _plan(self, request: web.Request) -> web.Response:
        asked = await read_body(request, RolloutStart)
        event = RolloutApplied(actor=actor(request), name=asked.name, spec=asked.spec)
        before = self._loop.state.copy()
        try:
            after, applied = self._loop.preview(event)
        except Conflict as refusal:
            if refusal.reason != "no-room":
                raise
            after, applied = self._loop.preview(_in_place(event))
        if not isinstance(applied, Applied):
            raise Invalid("this event has no answer for people.")
        in_place = asked.spec.strategy.in_place
        plan = rollout_plan(before, after, applied.name, self._clock.utc(), in_place=in_place)
        transfers = [place.transfer for place in plan.places if place.transfer is not None]
        manifests = await manifests_of(self._store, transfers)
        return reply(await asyncio.to_thread(_answer, plan, manifests))


def _in_place(event: RolloutApplied) -> RolloutApplied:
    """Return the same, as it could be done if both versions need not fit at once."""
    strategy = replace(event.spec.strategy, in_place=True)
    return replace(event, spec=replace(event.spec, strategy=strategy))


def _answer(plan: RolloutPlan, manifests: Mapping[str, Manifest]) -> RolloutPlanAnswer:
    moving = [(place, place.transfer) for place in plan.places if place.transfer is not None]
    travels = [
        place_of(_row(place, plan.canary), transfer, manifests) for place, transfer in moving
    ]
    by_cluster = {each.cluster: each for each in travels}
    clusters = []
    for place in plan.places:
        there = by_cluster.get(place.cluster)
        clusters.append(
            PlannedCanary(
                wave=place.wave,
                cluster=place.cluster,
                region=place.region,
                fit=place.fit,
                replicas=place.replicas,
                missing=place.missing,
                reason=place.reason,
                bytes=there.bytes if there else 0,
                exact=there.exact if there else True,
                eta_s=there.eta_s if there else None,
                assumes=there.assumes if there else "",
            )
        )
    return RolloutPlanAnswer(
        rollout=plan.rollout,
        model=plan.model,
        stable=plan.stable,
        canary=plan.canary,
        waves=plan.waves,
        approvals=plan.approvals,
        least_s=plan.least_s,
        clusters=tuple(clusters),
        regions=tuple(regions_of([t for _, t in moving], travels, manifests)),
        notes=plan.notes,
    )


def _row(place: PlannedAt, canary: int) -> PlanRow:
    return PlanRow(
        cluster=place.cluster, region=place.region, version=canary, replicas=place.replicas
    )
