"""The way back: an upstream's answer goes to the client as it comes.

Input: an Upstream whose head has arrived. Output: a response on the client's connection. Small
answers of known length are read whole first, so that a cluster that dies in the middle of one can
still be replaced; everything else passes piece by piece. A stream that breaks off after bytes were
sent ends with an error event, anything else by breaking the connection: never as if it were whole.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from multidict import CIMultiDict

from federation.contract.errors import FederationError
from federation.relay.bodies import break_off, taken, write
from federation.relay.errors import BadUpstream, sse_error
from federation.relay.forward import BrokenMidway, ForwardError, Upstream
from federation.relay.headers import content_length
from federation.relay.http1.messages import Request, Response, StreamResponse
from federation.relay.http1.waiting import Pause
from router.request.sse import WholeEvents

log = logging.getLogger(__name__)

WHOLE_BYTES = 64 * 1024


@dataclass(slots=True, kw_only=True)
class Answer:
    """An answer of which something has arrived. `rest` is None when `first` is all of it; `see` is
    shown every piece that is sent (of a stream of events, whole ones)."""

    status: int
    headers: CIMultiDict[str]
    first: bytes
    rest: Upstream | None
    length: int | None
    broken: bool = False  # off, by the cluster, after it had begun
    see: Callable[[bytes], None] = field(default=lambda _: None)

    @property
    def is_events(self) -> bool:
        """Whether it is a stream of server-sent events that we can read."""
        kind = self.headers.get("Content-Type", "")
        plain = self.headers.get("Content-Encoding", "identity") == "identity"
        return plain and kind.startswith("text/event-stream")


async def begin(upstream: Upstream) -> Answer:
    """Wait for the first piece of an answer, or for all of a small one; raises ForwardError."""
    try:
        length = content_length(upstream.headers)
    except FederationError as error:
        raise BrokenMidway(f"its answer is not understood: {error.message}") from None
    rest: Upstream | None = None
    if upstream.whole and length is not None and length <= WHOLE_BYTES:
        first = await upstream.piece()
    elif length is not None and length <= WHOLE_BYTES:
        first = b"".join([chunk async for chunk in upstream.chunks()])
    else:
        first, rest = await upstream.piece(), upstream
    headers = upstream.passed_headers()
    return Answer(status=upstream.status, headers=headers, first=first, rest=rest, length=length)


async def relay(request: Request, answer: Answer, stall_s: float) -> StreamResponse:
    """Send an answer to the client; returns when all is sent, broke off, or the client is gone."""
    if answer.rest is None:
        answer.see(answer.first)
        whole = Response(status=answer.status, headers=answer.headers, body=answer.first)
        await whole.prepare(request)
        return whole
    response = StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = answer.length
    try:
        await _pieces(request, response, answer, stall_s)
        await response.write_eof()
    except ConnectionError:
        log.debug("the client went away while its answer was sent")
    return response


async def _pieces(
    request: Request, response: StreamResponse, answer: Answer, stall_s: float
) -> None:
    events = WholeEvents() if answer.is_events else None

    def take(piece: bytes) -> Pause | None:
        ready = events.feed(piece) if events else piece
        if not ready:
            return None
        answer.see(ready)
        return response.put(ready)

    try:
        first = events.feed(answer.first) if events else answer.first
        if first:
            answer.see(first)
        wait = response.begin_with(request, first)
        while True:
            if wait is not None:
                await taken(request, wait, stall_s)
            wait = await answer.rest.pour(take) if answer.rest is not None else None
            if wait is None:
                break
        if events and (rest := events.rest()):
            answer.see(rest)
            await write(request, response, rest, stall_s)
    except (ForwardError, FederationError) as error:
        log.warning("an answer broke off after it had begun: %s", error)
        answer.broken = isinstance(error, ForwardError)
        if events is None:
            break_off(request)
            raise ConnectionResetError from error
        broken = BadUpstream(
            f"The cluster that generated this answer broke off: {error}.",
            hint="What came before is valid; send the request again for a whole answer.",
            reason="stream-broken",
        )
        await write(request, response, sse_error(request.path, broken), stall_s)
