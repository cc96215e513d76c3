"""Rollout verbs: start, pause, resume, promote, approve, abort, undo.

Input: model owners, and operators who stop what hurts. Output: events for the control loop, and the
rollout as it stands then. A rollout is named by its own name or by its model's (the one that goes
on). `dryRun` decides on a copy: same checks, same answer, nothing kept.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from federation.api.bodies import converted, idempotency, read_document, reply
from federation.api.documents import Rollout
from federation.api.resources import Submitter
from federation.api.route import Route, actor, caller_of, flag, needs
from federation.contract.errors import AlreadyExists, Conflict, Invalid, NotFound
from federation.contract.rollout import RolloutSpec
from federation.contract.strict_yaml import Document
from federation.policy.access.roles import Verb
from federation.policy.events import Event
from federation.policy.rollouts.events import (
    RolloutApplied,
    RolloutSteered,
    RolloutUndone,
)
from federation.policy.rollouts.events import Verb as Steering

MAX_WHY = 1_000  # characters
_DRY_RUN = {"dryRun": "true = check and answer, but change nothing"}
_SUMMARIES = {
    Steering.PAUSE: "Stop a rollout where it is; weights stay as they are",
    Steering.RESUME: "Let a paused rollout go on",
    Steering.PROMOTE: "Skip what is left of a step, or with `full` all steps and waves",
    Steering.APPROVE: "Let the wave begin that waits for an approval",
    Steering.ABORT: "Send all traffic back to the stable version, at once",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStart:
    """A rollout to begin, and why. Without a name it is given one."""

    spec: RolloutSpec
    name: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steer:
    """Why somebody intervenes. `full` is for promote."""

    why: str = ""
    full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """Back to a version that the model had; 0 = the one before."""

    version: int = 0
    why: str = ""


class Rollouts:
    """The handlers of the verbs of rollouts."""

    def __init__(self, submitter: Submitter) -> None:
        self._submitter = submitter

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        start = Route(
            method="POST",
            path="/api/v1/rollouts",
            summary="Start a rollout",
            handler=self._start,
            needs=needs(Verb.WRITE, "Rollout", ""),
            body=RolloutStart,
            answer=Rollout,
            status=201,
            queries=_DRY_RUN,
            errors=(Invalid, NotFound, AlreadyExists, Conflict),
        )
        undo = Route(
            method="POST",
            path="/api/v1/models/{name}/undo",
            summary="Roll a model back to a version that it had",
            handler=self._undo,
            needs=needs(Verb.WRITE, "Rollout"),
            body=Undo,
            answer=Rollout,
            status=201,
            queries=_DRY_RUN,
            errors=(Invalid, NotFound, Conflict),
        )
        return [start, undo, *map(self._verb, Steering)]

    def _verb(self, verb: Steering) -> Route:
        stops = verb in (Steering.PAUSE, Steering.ABORT)
        return Route(
            method="POST",
            path=f"/api/v1/rollouts/{{name}}/{verb.value}",
            summary=_SUMMARIES[verb],
            handler=self._steer(verb),
            needs=needs(Verb.STOP if stops else Verb.WRITE, "Rollout"),
            body=Steer,
            answer=Rollout,
            queries=_DRY_RUN,
            errors=(Invalid, NotFound, Conflict),
        )

    async def _start(self, request: web.Request) -> web.Response:
        body = await read_document(request)
        asked = converted(body, RolloutStart)
        event = RolloutApplied(
            actor=actor(request),
            name=asked.name,
            spec=asked.spec,
            why=_checked(asked.why),
            expected=0 if asked.name else None,
        )
        return await self._submit(request, body, event)

    async def _undo(self, request: web.Request) -> web.Response:
        body = await read_document(request)
        asked = converted(body, Undo)
        event = RolloutUndone(
            actor=actor(request),
            model=request.match_info["name"],
            version=asked.version,
            why=_checked(asked.why),
        )
        return await self._submit(request, body, event)

    def _steer(self, verb: Steering) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await read_document(request)
            asked = converted(body, Steer)
            if asked.full and verb is not Steering.PROMOTE:
                raise Invalid(f"full is for promote, not for {verb.value}.")
            event = RolloutSteered(
                actor=actor(request),
                name=request.match_info["name"],
                verb=verb,
                why=_checked(asked.why),
                full=asked.full,
            )
            return await self._submit(request, body, event)

        return handle

    async def _submit(self, request: web.Request, body: Document, event: Event) -> web.Response:
        state, applied = await self._submitter.submit(
            event,
            caller=caller_of(request),
            key=idempotency(request, body),
            dry_run=flag(request, "dryRun"),
        )
        status = HTTPStatus.CREATED if applied.created else HTTPStatus.OK
        return reply(self._submitter.document(state, "Rollout", applied.name), status=status)


def _checked(why: str) -> str:
    if len(why) > MAX_WHY:
        raise Invalid(f"why has {len(why)} characters; {MAX_WHY} at most.")
    return why
