"""The skeleton that router and gateway hang their handler on.

Input: a handler that answers every path. Output: an application that checks the target before the
handler sees it, and before a client that sent `Expect: 100-continue` is invited to upload; and that
turns what the handler raises into an answer in the dialect of the path.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from federation.contract.errors import FederationError, Invalid
from federation.relay.bodies import break_off
from federation.relay.connections import cut_off
from federation.relay.errors import error_response, render_error
from federation.relay.guard import PeerGuard
from federation.relay.http1.heads import BadMessage, write_head
from federation.relay.http1.messages import Request, Response, StreamResponse
from federation.relay.http1.quick import Quick
from federation.relay.noise import MalformedCount
from federation.relay.paths import check_target
from federation.relay.transport import Takeover

log = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[StreamResponse]]
Admission = Callable[[Request], None]
Refusal = Callable[[Request, FederationError], Response]
CLIENT_GONE = 499
_STALL_S = 30.0  # how long a client may take nothing of an answer that waits to be sent


class Application:
    """Answers requests by `handle`.

    `on_request` are called with each request, and what they return when its answer is out;
    `on_response` before an answer's head is written; `on_cleanup` at the end. `on_h2` takes over
    clients that speak HTTP/2; without it they are refused. `quick` is offered every request that
    came whole: connection, head, what may vary in it, the head's bytes, the body; it returns None
    for what is to go the usual way.
    """

    def __init__(
        self,
        handle: Handler,
        *,
        admit: Admission,
        guard: PeerGuard | None,
        refuse: Refusal,
        stall_s: float,
    ) -> None:
        self.on_request: list[Callable[[Request], Callable[[], None] | None]] = []
        self.on_response: list[Callable[[Request, StreamResponse], None]] = []
        self.on_cleanup: list[Callable[[], Awaitable[None]]] = []
        self.on_h2: Takeover | None = None
        self.quick: Quick | None = None
        self._handle = handle
        self._admit = admit
        self._guard = guard
        self._refuse = refuse
        self._stall_s = stall_s
        self._malformed = MalformedCount()
        if guard is not None:
            self.on_response.append(guard.end_old)

    def __repr__(self) -> str:
        return f"Application({self._handle!r})"

    async def settle(self, request: Request) -> None:
        """Wait until the client has taken enough of an answer; one that does not is cut off."""
        if (wait := request.connection.wait_until_taken()) is None:
            return
        alarm = request.connection.bound_stall(self._stall_s)
        try:
            await wait
        except TimeoutError:
            cut_off(request.transport)
        except ConnectionError:
            break_off(request)
        finally:
            alarm.clear()

    async def respond(
        self, request: Request, going_on: Awaitable[StreamResponse] | None = None
    ) -> None:
        """Answer a request, whatever happens; one that was let in already by `going_on`."""
        ends = [end for begin in self.on_request if (end := begin(request)) is not None]
        try:
            response = await self._answer(request, going_on)
            if response is not None and not request.connection.transport.is_closing():
                if not response.prepared:
                    response.begin(request)
                response.finish()
                await self.settle(request)
        except TimeoutError:
            cut_off(request.transport)
        except ConnectionError:
            break_off(request)
        except BadMessage:
            log.exception("an answer could not be written")
            break_off(request)
        finally:
            for end in ends:
                end()

    async def _answer(
        self, request: Request, going_on: Awaitable[StreamResponse] | None
    ) -> StreamResponse | None:
        """Return the answer, None if there can be none any more."""
        guard = self._guard
        try:
            if going_on is not None:
                return await going_on
            try:
                self._check(request)
            except FederationError as error:
                return self._last(request, error)
            try:
                self._admit(request)
            except FederationError as error:
                if request.head.expects:  # its body is not wanted, and may come all the same
                    return self._last(request, error)
                raise
            if request.head.expects:
                request.connection.invite(request)
            with guard.serving(request) if guard is not None else _NOTHING:
                return await self._handle(request)
        except FederationError as error:
            failure = error
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("a request failed", extra={"path": request.path[:200]})
            failure = FederationError("The request failed inside.", hint="The log has the story.")
        if request.begun:
            break_off(request)
            return None
        return self._refuse(request, failure)

    def _check(self, request: Request) -> None:
        """Judge who asks, and for what; what follows a bad head is not read."""
        if self._guard is not None:
            self._guard.admit(request)
        if not request.head.sound:
            check_target(request.raw_path)
            request.head.sound = True  # so is the next one, if it is the same

    def _last(self, request: Request, error: FederationError) -> Response:
        """End the connection with this answer: what follows a bad head may be part of it."""
        response = self._refuse(request, error)
        response.force_close()
        return response

    def about_to_answer(self, request: Request, response: StreamResponse) -> None:
        """Let everybody look at an answer."""
        for look in self.on_response:
            look(request, response)

    def not_understood(self, error: BadMessage) -> bytes:
        """Return the whole answer to what is no request."""
        self._malformed.note(asyncio.get_running_loop().time())
        refusal = Invalid(f"The request is not understood: {error}.")
        status, content_type, body = render_error("/", refusal)
        fields = (
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        )
        return write_head(f"HTTP/1.1 {status} Bad Request", fields) + body

    async def clean_up(self) -> None:
        """Release what the handler holds."""
        for close in self.on_cleanup:
            await close()


_NOTHING = contextlib.nullcontext()


def make_application(
    handle: Handler,
    *,
    admit: Admission = lambda _: None,
    guard: PeerGuard | None = None,
    refuse: Refusal = lambda request, error: error_response(request.path, error),
    stall_s: float = _STALL_S,
) -> Application:
    """Return an application whose every request goes to `handle`.

    `guard` decides first, by the certificate of the connection. `refuse` makes the answers that
    are errors.

    `admit` may raise a FederationError on the head alone; a client that waits for `100 Continue`
    then gets the refusal and keeps its body. A client that takes nothing of a whole answer for
    `stall_s` is cut off; streams have `bodies.write`.
    """
    return Application(handle, admit=admit, guard=guard, refuse=refuse, stall_s=stall_s)
