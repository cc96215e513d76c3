"""What a deployment would change, what would have to travel for it, and how long that takes.

Input: the document of a deployment, as for a PUT. Output: a plan. It is decided on a copy of the
state: nothing is kept, so whoever may read may ask.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from federation.api.bodies import converted, read_document, reply
from federation.api.documents import Written
from federation.api.resources import checked_envelope
from federation.api.route import Route, actor, needs
from federation.artifacts.base import ArtifactStore
from federation.chunking.travel import lacking_bytes, travels
from federation.contract.errors import Conflict, FederationError, Invalid, NotFound
from federation.contract.manifest import parse_manifest
from federation.contract.resources import KINDS, DeploymentSpec
from federation.contract.types import Manifest
from federation.control_loop import ControlLoop
from federation.policy.access.roles import Verb
from federation.policy.events import DeploymentApplied
from federation.policy.obstacles import Obstacle
from federation.policy.plan import Plan, PlanRow, Transfer, plan_of

_KIND = next(kind for kind in KINDS if kind.name == "Deployment")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPlace:
    """A version that a cluster would get. `bytes` travel there; `exact` is False where that is the
    size of the whole version. `eta_s` is until the bytes are there: loading and warm-up come on
    top. It is None where nobody knows how fast the cluster fetches; `assumes` says what is assumed.
    """

    cluster: str
    region: str
    version: int
    replicas: int
    bytes: int
    exact: bool
    eta_s: float | None
    assumes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRegion:
    """What would travel to a region. `from_origin_bytes` no cluster of it has; `eta_s` is until the
    last of the clusters has its bytes."""

    region: str
    clusters: int
    bytes: int
    from_origin_bytes: int
    eta_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAnswer:
    """What a deployment would change."""

    deployment: str
    model: str
    version: int
    created: bool
    place: tuple[PlannedPlace, ...]
    keep: tuple[PlanRow, ...]
    stop: tuple[PlanRow, ...]
    cannot: tuple[Obstacle, ...]
    others: tuple[str, ...]
    notes: tuple[str, ...]
    regions: tuple[PlannedRegion, ...]


class Plans:
    """The handler of /api/v1/plan."""

    def __init__(self, loop: ControlLoop, store: ArtifactStore) -> None:
        self._loop = loop
        self._store = store

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="POST",
                path="/api/v1/plan",
                summary="Tell what a deployment would change, and change nothing",
                handler=self._plan,
                needs=needs(Verb.READ, "Plan", ""),
                body=Written,
                answer=PlanAnswer,
                errors=(Invalid, NotFound, Conflict),
            )
        ]

    async def _plan(self, request: web.Request) -> web.Response:
        body = await read_document(request)
        name = converted(body, Written).metadata.name
        written = checked_envelope(body, _KIND, name)
        spec: DeploymentSpec = body.convert(DeploymentSpec, ("spec",))
        expected = written.metadata.resourceVersion
        event = DeploymentApplied(actor=actor(request), name=name, spec=spec, expected=expected)
        before = self._loop.state.copy()
        after, _ = self._loop.preview(event)
        plan = plan_of(before, after, name)
        manifests = await manifests_of(self._store, plan.transfers)
        created = name not in before.deployments
        return reply(await asyncio.to_thread(_answer, plan, manifests, created=created))


async def manifests_of(store: ArtifactStore, transfers: Iterable[Transfer]) -> dict[str, Manifest]:
    """Return those that can be read, by digest: of what is to travel, and of what is there."""
    lacking = [t for t in transfers if not t.there]
    digests = {digest for t in lacking for digest in (t.digest, *t.held)}
    found = {}
    for digest in sorted(digests):
        try:
            data = await store.document("manifest", digest)
            found[digest] = await asyncio.to_thread(parse_manifest, data)
        except FederationError:
            continue  # then the size of the version is told
    return found


def _answer(plan: Plan, manifests: Mapping[str, Manifest], *, created: bool) -> PlanAnswer:
    places = [
        place_of(row, transfer, manifests)
        for row, transfer in zip(plan.place, plan.transfers, strict=True)
    ]
    return PlanAnswer(
        deployment=plan.deployment,
        model=plan.model,
        version=plan.version,
        created=created,
        place=tuple(places),
        keep=plan.keep,
        stop=plan.stop,
        cannot=plan.cannot,
        others=plan.others,
        notes=plan.notes,
        regions=tuple(regions_of(plan.transfers, places, manifests)),
    )


def place_of(row: PlanRow, transfer: Transfer, manifests: Mapping[str, Manifest]) -> PlannedPlace:
    """Return a place with what would have to travel there, as exactly as the manifests tell."""
    wanted = manifests.get(transfer.digest)
    count, exact = transfer.size, wanted is not None
    if transfer.there:
        count, exact = 0, True
    elif wanted is not None:
        held = [manifests[digest] for digest in transfer.held if digest in manifests]
        count = lacking_bytes(wanted, held)
    rate = transfer.bytes_per_second
    eta_s = 0.0 if not count else round(count / rate, 1) if rate else None
    if not count:
        assumes = "its bytes are there"
    elif not rate:
        assumes = "nobody knows how fast it fetches"
    else:
        told = "its cap" if transfer.capped else "what it fetched last with"
        assumes = f"{rate / 1e6:.3g} MB/s, {told}"
    return PlannedPlace(
        cluster=row.cluster,
        region=row.region,
        version=row.version,
        replicas=row.replicas,
        bytes=count,
        exact=exact,
        eta_s=eta_s,
        assumes=assumes,
    )


def regions_of(
    transfers: Sequence[Transfer], places: list[PlannedPlace], manifests: Mapping[str, Manifest]
) -> Iterable[PlannedRegion]:
    """Yield what would travel to each region."""
    for region in sorted({place.region for place in places}):
        mine = [place for place in places if place.region == region]
        etas = [math.inf if place.eta_s is None else place.eta_s for place in mine]
        last = max(etas)
        yield PlannedRegion(
            region=region,
            clusters=len({place.cluster for place in mine}),
            bytes=sum(place.bytes for place in mine),
            from_origin_bytes=_from_origin(transfers, region, manifests),
            eta_s=None if math.isinf(last) else last,
        )


def _from_origin(
    transfers: Sequence[Transfer], region: str, manifests: Mapping[str, Manifest]
) -> int:
    """Bytes that none of the region's clusters that get a version has."""
    total = 0
    mine = [t for t in transfers if t.region == region]
    for digest in sorted({t.digest for t in mine}):
        wanting = [t for t in mine if t.digest == digest]
        if any(t.there or t.near for t in wanting):
            continue
        if (new := manifests.get(digest)) is None:
            total += wanting[0].size
            continue
        held = {t.cluster: [manifests[d] for d in t.held if d in manifests] for t in wanting}
        (travel,) = travels(new, {region: held})
        total += travel.from_origin
    return total
