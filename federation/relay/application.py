"""The skeleton that router and gateway hang their handler on.

Input: a handler that answers every path. Output: an aiohttp application that checks the head before
the handler sees it, and before a client that sent `Expect: 100-continue` is invited to upload; and
that turns what the handler raises into an answer in the dialect of the path.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from federation.contract.errors import FederationError, NotFound
from federation.relay.connections import cut_off
from federation.relay.errors import error_response
from federation.relay.guard import PeerGuard
from federation.relay.headers import check_head
from federation.relay.paths import check_target
from federation.relay.server import break_off

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Admission = Callable[[web.Request], None]
Refusal = Callable[[web.Request, FederationError], web.Response]
CLIENT_GONE = 499
_STALL_S = 30.0  # how long a client may take nothing of an answer that waits to be sent
_REFUSE: web.AppKey[Refusal] = web.AppKey("relay-refuse")
_BEGUN = web.RequestKey("relay-answer-begun", bool)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def make_application(
    handle: Handler,
    *,
    admit: Admission = lambda _: None,
    guard: PeerGuard | None = None,
    refuse: Refusal = lambda request, error: error_response(request.path, error),
    stall_s: float = _STALL_S,
) -> web.Application:
    """Return an application whose every request goes to `handle`.

    `guard` decides first, by the certificate of the connection. `refuse` makes the answers that
    are errors.

    `admit` may raise a FederationError on the head alone; a client that waits for `100 Continue`
    then gets the refusal and keeps its body. A client that takes nothing of a whole answer for
    `stall_s` is cut off; streams have `server.write`.
    """

    def check(request: web.Request) -> None:
        if guard:
            guard.admit(request)
        check_head(request)
        check_target(request.raw_path)

    async def expected(request: web.Request) -> web.StreamResponse | None:
        try:
            check(request)
            admit(request)
        except FederationError as error:
            return _last(refuse(request, error))
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.transport:
            request.transport.write(_CONTINUE)
        return None

    async def checked(request: web.Request) -> web.StreamResponse:
        try:
            check(request)
        except FederationError as error:
            return _last(refuse(request, error))
        admit(request)
        with guard.serving(request) if guard else contextlib.nullcontext():
            return await handle(request)

    app = web.Application(middlewares=[_sending(stall_s), _answer_errors])
    app[_REFUSE] = refuse
    app.router.add_route("*", "/{path:.*}", checked, expect_handler=expected)
    app.on_response_prepare.append(_note_begun)
    if guard:
        app.on_response_prepare.append(partial(_end_old, guard))
    return app


def _last(response: web.Response) -> web.Response:
    """End the connection with this answer: what follows a bad head may be part of it."""
    response.force_close()
    return response


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FederationError as error:
        failure = error
    except web.HTTPException:  # a target such as `*`, which goes to no handler
        return _last(request.app[_REFUSE](request, NotFound("There is nothing at this path.")))
    except ConnectionError:
        break_off(request)
        return web.Response(status=CLIENT_GONE)  # nobody reads it
    except Exception:
        log.exception("a request failed", extra={"path": request.path[:200]})
        failure = FederationError("The request failed inside.", hint="The log has the story.")
    if request.get(_BEGUN):
        break_off(request)
    return request.app[_REFUSE](request, failure)


def _sending(stall_s: float) -> Middleware:
    @web.middleware
    async def sent(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        await _send(request, response, stall_s)
        return response

    return sent


async def _send(request: web.Request, response: web.StreamResponse, stall_s: float) -> None:
    """Send what is left of an answer; aiohttp alone would wait for the client for ever."""
    try:
        async with asyncio.timeout(stall_s):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport:
            cut_off(request.transport)
    except ConnectionError:
        break_off(request)


async def _note_begun(request: web.BaseRequest, response: web.StreamResponse) -> None:
    request[_BEGUN] = True
    response.headers.popall(hdrs.SERVER, None)


async def _end_old(
    guard: PeerGuard, request: web.BaseRequest, response: web.StreamResponse
) -> None:
    """Tell the peer that a connection has to be replaced, while there is time for it."""
    if guard.is_last(request):
        response.force_close()
        response.headers[hdrs.CONNECTION] = "close"
