"""One entry of the route table: what is served where, to whom, and what is said back.

Input: the tables of the modules beside this one. Output: aiohttp routes that let only the right
callers in, and for `openapi` all that the document tells of a route.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from federation.api.auth import Gate
from federation.api.errors import Handler, problem
from federation.contract.errors import FederationError, Invalid, Unauthenticated, Unavailable
from federation.contract.names import did_you_mean
from federation.identity.tokens import Token, TokenKind

CALLER = web.RequestKey("caller", Token)

OPEN: frozenset[TokenKind] = frozenset()
OPERATORS = frozenset({TokenKind.ADMIN})
OPERATORS_AND_AGENTS = frozenset({TokenKind.ADMIN, TokenKind.AGENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path.

    `body` and `answer` are types that become schemas, or media types of raw bytes; `queries` maps
    query parameters to what they mean. No `callers` = open to everyone.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    callers: frozenset[TokenKind] = OPERATORS
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
    app: web.Application, route: Route, *, gate: Gate, is_ready: Callable[[], bool]
) -> None:
    """Serve one route; its handler finds the caller at `request[CALLER]`.

    Until the control plane is ready, only open routes are served: what is not loaded yet must not
    be answered as if it did not exist.
    """

    def admit(request: web.Request) -> None:
        if route.callers:
            if not is_ready():
                raise Unavailable("the control plane is starting.", hint="Try again soon.")
            request[CALLER] = gate.admit(request.headers.get("Authorization"), route.callers)

    async def guarded(request: web.Request) -> web.StreamResponse:
        admit(request)
        _refuse_unknown_queries(request, route)
        return await route.handler(request)

    async def before_the_body(request: web.Request) -> web.StreamResponse | None:
        """Answer `Expect: 100-continue`: strangers are not invited to upload."""
        try:
            admit(request)
        except FederationError as error:
            return problem(error)
        if request.headers.get("Expect", "").lower() != "100-continue":
            return problem(Invalid("the only expectation served is 100-continue."))
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None

    app.router.add_route(route.method, route.path, guarded, expect_handler=before_the_body)


def actor(request: web.Request) -> str:
    """Return who calls, for the audit trail; raises Unauthenticated on an open route."""
    caller = request.get(CALLER)
    if caller is None:
        raise Unauthenticated("this call needs a bearer token.")
    return f"{caller.kind.value}/{caller.id}"


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
