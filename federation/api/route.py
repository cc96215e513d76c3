"""One entry of the route table: what is served where, to whom, and what is said back.

Input: the tables of the modules beside this one. Output: aiohttp routes that let only the right
callers in, and for `openapi` all that the document tells of a route.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from federation.api.auth import Gate
from federation.api.errors import Handler, problem
from federation.contract.errors import FederationError, Invalid, Unauthenticated, Unavailable
from federation.contract.names import did_you_mean
from federation.policy.access.actions import authorise
from federation.policy.access.roles import Action, Caller, Verb
from federation.policy.state import State

CALLER = web.RequestKey("caller", Caller)
Admit = Callable[[web.Request], Awaitable[None]]
_ADMIT: web.RequestKey[Admit] = web.RequestKey("admit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a caller of a route must be allowed to do. `name` is a template over the parameters of
    the path: "{name}/{version}"."""

    verb: Verb
    kind: str
    name: str = ""

    def action(self, parameters: Mapping[str, str]) -> Action:
        """Return the action of one call, as far as its path tells."""
        return Action(verb=self.verb, kind=self.kind, name=self.name.format_map(parameters))


def needs(verb: Verb, kind: str, name: str = "{name}") -> Needs:
    """Declare that a route does `verb` to the object that its path names."""
    return Needs(verb=verb, kind=kind, name=name)


OPEN = None  # to everyone
ANYBODY_KNOWN = Needs(verb=Verb.READ, kind="Caller")  # about themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path.

    `body` and `answer` are types that become schemas, or media types of raw bytes; `queries` maps
    query parameters to what they mean. `needs` is asked before the body is read; what the body says
    is asked again by the control loop, as part of the event (see `policy.access.actions`). Where
    there is a `link`, a call with a `signature` in its query is let in, without a caller, unless
    that function refuses it.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    needs: Needs | None
    link: Callable[[web.Request], None] | None = None
    body: type | str | None = None
    answer: type | str | None = None
    status: int = 200
    queries: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[type[FederationError], ...] = ()

    @property
    def idempotency_key(self) -> bool:
        """Whether the Idempotency-Key header means something here."""
        return self.method in ("PUT", "POST", "DELETE") and self.body != "application/octet-stream"


def add_route(
    app: web.Application,
    route: Route,
    *,
    gate: Gate,
    is_ready: Callable[[], bool],
    durable: Callable[[], Awaitable[None]],
    state: Callable[[], State],
) -> None:
    """Serve one route; its handler finds the caller with `caller_of`.

    Until the control plane is ready, only open routes are served: what is not loaded yet must not
    be answered as if it did not exist. Nor must anybody be told what a crash could still undo: an
    answer waits until it is `durable`.
    """

    handle = route.handler if route.needs is OPEN else _durably(route.handler, durable)

    async def admit(request: web.Request) -> None:
        if route.needs is None:
            return
        if route.link is not None and "signature" in request.query:
            route.link(request)
            return
        if not is_ready():
            raise Unavailable("the control plane is starting.", hint="Try again soon.")
        request[CALLER] = await gate.admit(request)
        if route.needs is not ANYBODY_KNOWN:
            authorise(request[CALLER], route.needs.action(request.match_info), state())

    async def guarded(request: web.Request) -> web.StreamResponse:
        await admit(request)
        request[_ADMIT] = admit
        _refuse_unknown_queries(request, route)
        return await handle(request)

    async def before_the_body(request: web.Request) -> web.StreamResponse | None:
        """Answer `Expect: 100-continue`: strangers are not invited to upload."""
        try:
            await admit(request)
        except FederationError as error:
            return problem(error)
        if request.headers.get("Expect", "").lower() != "100-continue":
            return problem(Invalid("the only expectation served is 100-continue."))
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None

    app.router.add_route(route.method, route.path, guarded, expect_handler=before_the_body)


def _durably(handler: Handler, durable: Callable[[], Awaitable[None]]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            response = await handler(request)
        except FederationError:
            await durable()
            raise
        if not response.prepared:
            await durable()
        return response

    return handle


def actor(request: web.Request) -> str:
    """Return who calls, for the audit trail; raises Unauthenticated on an open route."""
    return caller_of(request).name


def caller_of(request: web.Request) -> Caller:
    """Return who calls; raises Unauthenticated on an open route."""
    caller: Caller | None = request.get(CALLER)
    if caller is None:
        raise Unauthenticated("this call needs a bearer token.")
    return caller


async def admit_again(request: web.Request) -> None:
    """Ask once more whether the caller may do this: for answers that last. Raises the refusal."""
    await request[_ADMIT](request)


def flag(request: web.Request, name: str) -> bool:
    """Return a boolean query parameter; absent is false; raises Invalid."""
    text = request.query.get(name, "false").lower()
    if text not in ("", "true", "1", "false", "0"):
        raise Invalid(f"{name} must be true or false, not {text!r}.")
    return text in ("", "true", "1")


def _refuse_unknown_queries(request: web.Request, route: Route) -> None:
    for name in request.query:
        if name not in route.queries:
            raise Invalid(
                f"there is no query parameter {name!r} here.",
                hint=did_you_mean(name, route.queries) if route.queries else "There are none.",
            )
