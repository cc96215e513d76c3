"""The kinds of resources: list, watch, read, write, delete.

Input: documents from operators. Output: events for the control loop, and what the views show after
them. `dryRun` decides on a copy: same checks, same answer, nothing kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import web

from federation.api.bodies import converted, idempotency, read_document, reply
from federation.api.documents import DOCUMENTS, LISTS, Metadata, Written
from federation.api.origin import origin_now
from federation.api.route import Route, actor, caller_of, flag, needs
from federation.api.watch import Watch, revision_asked_for
from federation.contract.errors import AlreadyExists, Conflict, Invalid, NotFound
from federation.contract.names import did_you_mean
from federation.contract.resources import (
    API_VERSION,
    KINDS,
    ClusterSpec,
    DeploymentSpec,
    Kind,
    ModelSpec,
    PrefetchSpec,
    RegionSpec,
    TenantSpec,
)
from federation.contract.rollout import RolloutSpec
from federation.contract.strict_yaml import Document
from federation.contract.sync_rules import check_time_zone
from federation.control_loop import ControlLoop
from federation.policy import views
from federation.policy.access.events import TenantApplied
from federation.policy.access.roles import Caller, Verb
from federation.policy.events import (
    Applied,
    ClusterApplied,
    DeploymentApplied,
    Event,
    Idempotency,
    ModelApplied,
    ObjectRemoved,
    RegionApplied,
)
from federation.policy.rollouts.events import RolloutApplied
from federation.policy.state import State
from federation.policy.sync.events import PrefetchApplied
from federation.runtime.clock import Clock

_DRY_RUN = {"dryRun": "true = check and answer, but change nothing"}
_EXPECTED = {"resourceVersion": "change it only if it is still at this version"}
_WATCH = {
    "watch": "true = stay, and send changes as server-sent events",
    "resourceVersion": "with watch: send what changed after this revision",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """The answer to a DELETE."""

    apiVersion: str  # noqa: N815
    kind: str
    metadata: Metadata


class Submitter:
    """Hands events to the control loop for all handlers, for real or as a dry run."""

    def __init__(self, loop: ControlLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock

    @property
    def state(self) -> State:
        """What is known now. Read it, never change it."""
        return self._loop.state

    async def submit(
        self,
        event: Event,
        *,
        caller: Caller,
        key: Idempotency | None = None,
        dry_run: bool = False,
    ) -> tuple[State, Applied]:
        """Return the state after `event` and what was applied; raises the refusal, also when the
        caller may not do what the event asks for."""
        if dry_run:
            state, result = self._loop.preview(event, caller=caller)
        else:
            result = await self._loop.submit(
                event, idempotency=key, caller=caller, origin=origin_now()
            )
            state = self._loop.state
        if not isinstance(result, Applied):
            raise Invalid("this event has no answer for people.")
        return state, result

    def document(self, state: State, kind: str, name: str) -> dict[str, Any]:
        """Return an object as it is shown; raises NotFound."""
        return views.document(state, kind, name, self._clock.utc())

    def documents(self, state: State, kind: str) -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        return views.documents(state, kind, self._clock.utc())


class Resources:
    """The handlers of /api/v1/{plural}."""

    def __init__(self, loop: ControlLoop, submitter: Submitter, watch: Watch) -> None:
        self._loop = loop
        self._submitter = submitter
        self._watch = watch

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [route for kind in KINDS for route in self._routes_of(kind)]

    def _routes_of(self, kind: Kind) -> list[Route]:
        one, many = f"/api/v1/{kind.plural}/{{name}}", f"/api/v1/{kind.plural}"
        document, told = DOCUMENTS[kind.name], kind.name.lower()
        routes = [
            Route(
                method="GET",
                path=many,
                summary=f"List or watch {kind.plural}",
                handler=self._for(kind, self._list),
                needs=needs(Verb.READ, kind.name, ""),
                answer=LISTS[kind.name],
                queries=_WATCH,
                errors=(Invalid,),
            ),
            Route(
                method="GET",
                path=one,
                summary=f"Read one {told}",
                handler=self._for(kind, self._get),
                needs=needs(Verb.READ, kind.name),
                answer=document,
                errors=(NotFound,),
            ),
        ]
        if kind.spec is None:
            return routes
        return [
            *routes,
            Route(
                method="PUT",
                path=one,
                summary=f"Create or change one {told}",
                handler=self._for(kind, self._put),
                needs=needs(Verb.WRITE, kind.name),
                body=Written,
                answer=document,
                queries=_DRY_RUN,
                errors=(Invalid, NotFound, AlreadyExists, Conflict),
            ),
            Route(
                method="DELETE",
                path=one,
                summary=f"Delete one {told}",
                handler=self._for(kind, self._delete),
                needs=needs(Verb.DELETE, kind.name),
                answer=Removed,
                queries=_DRY_RUN | _EXPECTED,
                errors=(Invalid, NotFound, Conflict),
            ),
        ]

    @staticmethod
    def _for(kind: Kind, handler: Callable[..., Any]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            response: web.StreamResponse = await handler(request, kind)
            return response

        return handle

    async def _list(self, request: web.Request, kind: Kind) -> web.StreamResponse:
        if flag(request, "watch"):
            return await self._watch.serve(request, kind)
        state = self._loop.state
        return reply(
            {
                "apiVersion": API_VERSION,
                "kind": f"{kind.name}List",
                "metadata": {"resourceVersion": state.revision},
                "items": self._submitter.documents(state, kind.name),
            }
        )

    async def _get(self, request: web.Request, kind: Kind) -> web.Response:
        name = request.match_info["name"]
        return reply(self._submitter.document(self._loop.state, kind.name, name))

    async def _put(self, request: web.Request, kind: Kind) -> web.Response:
        name = request.match_info["name"]
        body = await read_document(request)
        written = checked_envelope(body, kind, name)
        event = _applied(kind, body, name, actor(request), written.metadata.resourceVersion)
        state, applied = await self._submitter.submit(
            event,
            caller=caller_of(request),
            key=idempotency(request, body),
            dry_run=flag(request, "dryRun"),
        )
        status = HTTPStatus.CREATED if applied.created else HTTPStatus.OK
        return reply(self._submitter.document(state, kind.name, name), status=status)

    async def _delete(self, request: web.Request, kind: Kind) -> web.Response:
        name = request.match_info["name"]
        event = ObjectRemoved(
            actor=actor(request), kind=kind.name, name=name, expected=revision_asked_for(request)
        )
        await self._submitter.submit(
            event,
            caller=caller_of(request),
            key=idempotency(request),
            dry_run=flag(request, "dryRun"),
        )
        removed = Removed(apiVersion=API_VERSION, kind=kind.name, metadata=Metadata(name=name))
        return reply(removed)


def checked_envelope(body: Document, kind: Kind, name: str) -> Written:
    """Return the document without its spec checked; raises Invalid if it is of something else."""
    written = converted(body, Written)
    if written.apiVersion != API_VERSION:
        raise Invalid(f"apiVersion must be {API_VERSION!r}, not {written.apiVersion!r}.")
    if written.kind != kind.name:
        raise Invalid(
            f"kind must be {kind.name!r} at this path, not {written.kind!r}.",
            hint=did_you_mean(written.kind, [k.name for k in KINDS]),
        )
    if written.metadata.name != name:
        raise Invalid(
            f"metadata.name is {written.metadata.name!r}, the path says {name!r}.",
            hint="They must be equal.",
        )
    return written


_EVENTS: Mapping[type, Callable[..., Event]] = {
    RegionSpec: RegionApplied,
    ClusterSpec: ClusterApplied,
    ModelSpec: ModelApplied,
    DeploymentSpec: DeploymentApplied,
    RolloutSpec: RolloutApplied,
    PrefetchSpec: PrefetchApplied,
    TenantSpec: TenantApplied,
}


def _applied(kind: Kind, body: Document, name: str, who: str, expected: int | None) -> Event:
    """Return the event that a PUT is; raises Invalid for a malformed spec."""
    if kind.spec is None or kind.spec not in _EVENTS:
        raise Invalid(f"a {kind.name.lower()} cannot be written.")
    spec: object = body.convert(kind.spec, ("spec",))
    if isinstance(spec, RegionSpec):
        check_time_zone(spec.time_zone)
    elif isinstance(spec, ClusterSpec):
        check_time_zone(spec.sync.time_zone)
    return _EVENTS[kind.spec](actor=who, name=name, spec=spec, expected=expected)
