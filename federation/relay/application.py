"""The skeleton that router and gateway hang their handler on.

Input: a handler that answers every path. Output: an aiohttp application that checks the head before
the handler sees it, and before a client that sent `Expect: 100-continue` is invited to upload; and
that turns what the handler raises into an answer in the dialect of the path.
"""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from federation.contract.errors import FederationError, NotFound
from federation.relay.errors import error_response
from federation.relay.headers import check_head
from federation.relay.paths import check_target
from federation.relay.server import break_off

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Admission = Callable[[web.Request], None]
CLIENT_GONE = 499
_BEGUN = web.RequestKey("relay-answer-begun", bool)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def make_application(handle: Handler, *, admit: Admission | None = None) -> web.Application:
    """Return an application whose every request goes to `handle`.

    `admit` may raise a FederationError on the head alone; a client that waits for `100 Continue`
    then gets the refusal and keeps its body.
    """

    def check(request: web.Request) -> None:
        check_head(request)
        check_target(request.raw_path)
        if admit:
            admit(request)

    async def expected(request: web.Request) -> web.StreamResponse | None:
        try:
            check(request)
        except FederationError as error:
            response = error_response(request.path, error)
            response.force_close()
            return response
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.transport:
            request.transport.write(_CONTINUE)
        return None

    async def checked(request: web.Request) -> web.StreamResponse:
        check(request)
        return await handle(request)

    app = web.Application(middlewares=[_answer_errors])
    app.router.add_route("*", "/{path:.*}", checked, expect_handler=expected)
    app.on_response_prepare.append(_note_begun)
    return app


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FederationError as error:
        failure = error
    except web.HTTPException:
        failure = NotFound("There is nothing at this path.")
    except ConnectionError:
        break_off(request)
        return web.Response(status=CLIENT_GONE)  # nobody reads it
    except Exception:
        log.exception("a request failed", extra={"path": request.path[:200]})
        failure = FederationError("The request failed inside.", hint="The log has the story.")
    if request.get(_BEGUN):
        break_off(request)
    return error_response(request.path, failure)


async def _note_begun(request: web.BaseRequest, response: web.StreamResponse) -> None:
    request[_BEGUN] = True
    response.headers.popall(hdrs.SERVER, None)
