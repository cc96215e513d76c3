"""Callers of every kind over real HTTPS, and objects that are theirs or not.

Input: a running control plane. Output: for each call that may change something fresh objects, so
that no call disturbs the next; regions and models called `mine...` are within the limited callers'
grants, `theirs...` not.
"""

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import aiohttp

from federation.app import ControlPlane
from federation.contract.access import Grant, Role
from federation.contract.resources import (
    ClusterSpec,
    DeploymentSpec,
    PrefetchSpec,
    RegionSpec,
    RouterSpec,
    TenantSpec,
)
from federation.contract.rollout import RolloutSpec
from federation.contract.spiffe import PeerRole
from federation.contract.types import AssignedVersion, Location
from federation.policy import events
from federation.policy.access.events import KeyCreated, TenantApplied
from federation.policy.access.records import KeyKind
from federation.policy.membership.events import RouterRegistered
from federation.policy.meta import Meta
from federation.policy.rollouts.records import Phase, RolloutRecord, WaveRecord
from federation.policy.sync.events import PrefetchApplied
from tests.fakes.control_plane import Operator, roots_of

GRANTS: Mapping[str, tuple[Grant, ...]] = {
    "viewer": (Grant(role=Role.VIEWER),),
    "my-owner": (Grant(role=Role.MODEL_OWNER, models=("mine-*",)),),
    "owner": (Grant(role=Role.MODEL_OWNER),),
    "my-operator": (Grant(role=Role.OPERATOR, regions=("mine",)),),
    "operator": (Grant(role=Role.OPERATOR),),
    "admin": (Grant(role=Role.ADMIN),),
    "no-role": (),
}
ACTOR = "admin/local"
AGENT = "agent"
SOON = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Target:
    """What one call is about: names of objects that belong to `whose` ("mine" or "theirs")."""

    whose: str
    name: str
    pack: str = ""


class Rig:
    """Objects on demand, and one client for each kind of caller."""

    def __init__(self, plane: ControlPlane, api: Operator) -> None:
        self.plane = plane
        self.api = api
        self.callers: dict[str, Operator] = {}
        self._numbers = itertools.count()
        self._read: dict[tuple[str, str], Target] = {}

    async def target_to_read(self, kind: str, whose: str) -> Target:
        """Return an object that nobody changes, the same one each time."""
        if (kind, whose) not in self._read:
            self._read[kind, whose] = await self.target(kind, whose)
        return self._read[kind, whose]

    async def do(self, event: events.Event) -> None:
        """Have something happen, whoever may ask for it."""
        await self.plane.loop.submit(event)

    async def target(self, kind: str, whose: str) -> Target:
        """Make a fresh object of a kind."""
        if kind in ("Region", "Event"):  # the region is in use: never really deleted
            return Target(whose, whose if kind == "Region" else "1")
        name = f"{whose}-{next(self._numbers)}"
        match kind:
            case "Cluster":
                await self.cluster(name, whose)
            case "Model":
                return Target(whose, name, await self.model(name))
            case "Deployment":
                await self.model(name)
                await self.model(model_of(name, "theirs" if whose == "mine" else "mine"))
                spec = DeploymentSpec(model=name)
                await self.do(events.DeploymentApplied(actor=ACTOR, name=name, spec=spec))
            case "Rollout":
                await self.rollout(name, whose)
            case "Prefetch":
                await self.model(name)
                await self.model(model_of(name, "theirs" if whose == "mine" else "mine"))
                staged = PrefetchSpec(model=name, version=1)
                await self.do(PrefetchApplied(actor=ACTOR, name=name, spec=staged))
            case _:
                await self.other(kind, name)
        return Target(whose, name)

    async def other(self, kind: str, name: str) -> None:
        """Make an object that belongs to no region or model."""
        match kind:
            case "Router":
                await self.do(
                    RouterRegistered(
                        actor=ACTOR,
                        name=name,
                        spec=RouterSpec(),
                        token_sha256="",
                        token_expires_at=SOON,
                    )
                )
            case "Tenant":
                await self.do(TenantApplied(actor=ACTOR, name=name, spec=TenantSpec()))
            case "Key":
                await self.key(name, (Grant(role=Role.VIEWER),))
            case _:
                pass

    async def rollout(self, name: str, whose: str) -> None:
        """Have a model of that name on its way from version 1 to 2, in one region."""
        await self.model(name)
        assert (await self.api.push(name, b"another")).status == 201
        await self.model(model_of(name, "theirs" if whose == "mine" else "mine"))
        spec = DeploymentSpec(model=name, version=1)
        await self.do(events.DeploymentApplied(actor=ACTOR, name=name, spec=spec))
        state = self.plane.loop.state
        state.rollouts[name] = baking(name, state.deployments[name].meta, whose)

    async def cluster(self, name: str, region: str) -> None:
        """Register a cluster."""
        await self.do(
            events.ClusterRegistered(
                actor=ACTOR,
                name=name,
                spec=ClusterSpec(region=region),
                token_sha256="",
                token_expires_at=SOON,
            )
        )

    async def model(self, name: str) -> str:
        """Push version 1 with the alias "champion"; mine is assigned to the agent's cluster.

        Returns the id of the pack that it is in.
        """
        pushed = await self.api.push(name, name.encode())
        assert pushed.status == 201, pushed.body
        digest = pushed.json["digest"]
        await self.do(events.AliasMoved(actor=ACTOR, model=name, alias="champion", version=1))
        if name.startswith("mine"):
            clusters = self.plane.loop.state.clusters
            assigned = (AssignedVersion(model=name, version=1, digest=digest),)
            held = clusters[AGENT]
            assignment = replace(held.assignment, versions=assigned)
            clusters[AGENT] = replace(held, assignment=assignment)
        located = await self.api.call("GET", f"/api/v1/models/{name}/versions/1/locations")
        return str(located.json["packs"][0]["id"])

    async def key(self, name: str, grants: tuple[Grant, ...]) -> None:
        """Make a key whose text nobody knows."""
        await self.do(KeyCreated(actor=ACTOR, id=name, kind=KeyKind.USER, digest="", grants=grants))


def baking(name: str, meta: Meta, region: str) -> RolloutRecord:
    """Return a rollout of the model of that name, in one region."""
    return RolloutRecord(
        meta=meta,
        spec=RolloutSpec(model=name, version=2),
        deployment=name,
        stable=1,
        canary=2,
        started_by=ACTOR,
        phase=Phase.BAKING,
        since=meta.created_at,
        waves=(WaveRecord(regions=(region,), clusters=(), weight=5.0),),
    )


def model_of(deployment: str, whose: str) -> str:
    """Return the model that a deployment names when it belongs to `whose`."""
    return deployment if deployment.startswith(whose) else f"{whose}-{deployment}"


@asynccontextmanager
async def rig(plane: ControlPlane, api: Operator) -> AsyncIterator[Rig]:
    """A rig with regions, the agent's cluster, and all callers."""
    made = Rig(plane, api)
    for region in ("mine", "theirs"):
        spec = RegionSpec(location=Location(latitude=1, longitude=1))
        await made.do(events.RegionApplied(actor=ACTOR, name=region, spec=spec))
        await made.cluster(f"{region}-first", region)
    async with AsyncExitStack() as stack:
        anonymous = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=roots_of(plane)))
        )
        for name, grants in GRANTS.items():
            made.callers[name] = Operator(anonymous, api.base, await _bearer(made, name, grants))
        made.callers["nobody"] = Operator(anonymous, api.base, "")
        for name, role in (("agent", PeerRole.CLUSTER), ("router", PeerRole.ROUTER)):
            credentials = await api.member(AGENT if role is PeerRole.CLUSTER else "r", role)
            connector = aiohttp.TCPConnector(ssl=credentials.client_context())
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            made.callers[name] = Operator(session, api.base, "")
        yield made


async def _bearer(made: Rig, name: str, grants: tuple[Grant, ...]) -> str:
    """Return the text of a key with these grants."""
    spec = [
        {"role": g.role.value, "models": list(g.models), "regions": list(g.regions)} for g in grants
    ]
    answer = await made.api.call(
        "POST", f"/api/v1/keys/{name}", {"grants": spec or [{"role": "viewer"}]}
    )
    assert answer.status == 201, answer.body
    if not grants:  # what an identity provider's people without a role are
        keys = made.plane.loop.state.keys
        keys[name] = replace(keys[name], grants=())
    return str(answer.json["text"])
