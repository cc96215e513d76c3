"""The operator API: one route table, one aiohttp application over it.

Input: the parts of a control plane. Output: the table, which `openapi` describes, and the
application that serves it; handlers live in the modules beside this one.
"""

from collections.abc import Collection
from dataclasses import dataclass

from aiohttp import web

from federation.api.audit import AuditLog
from federation.api.auth import Gate, only_known_hosts
from federation.api.ca import CertificateAuthority
from federation.api.capacity import CapacityLists
from federation.api.chunks import Chunks
from federation.api.clusters import Clusters
from federation.api.denials import Denials
from federation.api.errors import answer_errors
from federation.api.explain import Explain
from federation.api.health import Open
from federation.api.join import Join
from federation.api.keys import Keys
from federation.api.metrics import ControlPlaneMetrics
from federation.api.models import Models
from federation.api.packs import PackLinks, Packs
from federation.api.plans import Plans
from federation.api.releases import Releases
from federation.api.resources import Resources, Submitter
from federation.api.rollout_plans import RolloutPlans
from federation.api.rollouts import Rollouts
from federation.api.route import Route, add_route
from federation.api.routers import RouterHub
from federation.api.routers_http import RoutersHttp
from federation.api.storecare import StoreCare
from federation.api.storekeeping import Storekeeping
from federation.api.tickets import Tickets
from federation.api.transfers import Sync
from federation.api.watch import Watch
from federation.artifacts.base import ArtifactStore
from federation.control_loop import ControlLoop
from federation.identity.keyring import Keyring
from federation.identity.release_key import ReleaseKey
from federation.publisher import Publisher
from federation.runtime.clock import Clock
from federation.store.base import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the handlers work with. `token_key` is secret and lasts across restarts."""

    loop: ControlLoop
    publisher: Publisher
    artifacts: ArtifactStore
    care: StoreCare
    release_key: ReleaseKey
    links: PackLinks
    hub: RouterHub
    gate: Gate
    metrics: ControlPlaneMetrics
    clock: Clock
    store: Store  # for the audit log only
    denials: Denials
    keyring: Keyring
    token_key: str
    version: str
    allowed_hosts: Collection[str] = ()


class OperatorApi:
    """The route table and the application that serves it."""

    def __init__(self, parts: Parts) -> None:
        submitter = Submitter(parts.loop, parts.clock)
        self.watch = Watch(loop=parts.loop, publisher=parts.publisher, clock=parts.clock)
        open_to_all = Open(parts.loop, parts.metrics, version=parts.version)
        keyring = parts.keyring
        tickets = Tickets(
            submitter,
            parts.clock,
            token_key=parts.token_key,
            pin=lambda: keyring.rollover.active_pin,
        )
        releases = Releases(parts.artifacts, parts.release_key, parts.clock)
        join = Join(
            parts.loop,
            keyring.authority,
            trust=lambda: parts.publisher.trust.newest,
            renew_grace=keyring.identity.renew_grace,
        )
        authority = CertificateAuthority(
            parts.loop, keyring.rollover, trust_domain=keyring.identity.trust_domain
        )
        self.routes: list[Route] = [
            *open_to_all.routes(),
            *Explain(parts.hub).routes(),
            *AuditLog(parts.store).routes(),
            *Chunks(parts.artifacts).routes(),
            *Packs(parts.artifacts, parts.links).routes(),
            *Storekeeping(parts.loop, parts.artifacts, parts.care).routes(),
            *join.routes(),
            *authority.routes(),
            *Clusters(submitter, tickets).routes(),
            *RoutersHttp(submitter, tickets).routes(),
            *Keys(submitter, token_key=parts.token_key).routes(),
            *Models(parts.loop, submitter, parts.artifacts, releases, parts.links).routes(),
            *Sync(parts.loop).routes(),
            *CapacityLists(parts.loop).routes(),
            *Plans(parts.loop, parts.artifacts).routes(),
            *RolloutPlans(parts.loop, parts.artifacts, parts.clock).routes(),
            *Rollouts(submitter).routes(),
            *Resources(parts.loop, submitter, self.watch).routes(),
        ]
        self.document = open_to_all.describe(self.routes)
        # Bodies are limited where they are read: each route has a limit of its own.
        self.app = web.Application(
            middlewares=[answer_errors, only_known_hosts(parts.allowed_hosts)], client_max_size=0
        )
        for route in self.routes:
            add_route(
                self.app,
                route,
                gate=parts.gate,
                is_ready=lambda: parts.loop.is_ready,
                durable=parts.loop.durable,
                state=lambda: parts.loop.state,
            )
        self.app.on_response_prepare.append(parts.denials.of_http)

        async def end_watchers(_: web.Application) -> None:
            self.watch.close()

        self.app.on_shutdown.append(end_watchers)

    def __repr__(self) -> str:
        return f"OperatorApi({len(self.routes)} routes)"
