"""A second attempt of a call whose answer is late, beside the first one.

Input: a call that was sent whole and has no answer, and where its Handler sends it, too. Output:
the call goes on with the attempt whose answer begins first; the other one is reset. Only the call's
own attempt sends anything on, so there is exactly one answer.
"""

from federation.contract.errors import FederationError
from federation.relay.h2.flow import Piece
from federation.relay.h2.service import Failure, Kind, Route, none_in
from federation.relay.h2.status import Status
from federation.relay.h2.stream import Stream
from federation.relay.h2.wheel import NEVER
from federation.relay.h2.wire import Code

MOST_BYTES = 256 * 1024  # of a request that is sent twice


class Rival(Stream):
    """The second attempt, as its connection sees it. It has no Handler, so it decides nothing and
    no answer goes a short way past it (`whole`)."""

    def __init__(self, first: Stream, route: Route) -> None:
        super().__init__(first.client, first.number, first.head, ended=True)
        self.first = first
        self.route = route

    def on_answer_block(self, block: bytes, *, ended: bool) -> None:
        """Head of an answer: the call goes on with it; raises Broken."""
        first, handler = self.first, self.first.handler
        if handler is None or first.rival is not self:
            return
        head = first.client.switch.service.answers.read(block)
        if failure := none_in(head, handler, alone=ended):
            self.lost(failure, reset=Code.CANCEL)
            return
        self.take_over(None, Code.CANCEL)
        first.on_answer_block(block, ended=ended)

    def on_answer_data(self, data: bytes, size: int, *, ended: bool) -> None:
        """A body without a head."""
        why = "it sent a body without a head"
        failure = Failure(kind=Kind.BROKEN, why=why, status=Status.INTERNAL)
        self.lost(failure, reset=Code.PROTOCOL_ERROR)

    def lost(self, failure: Failure, *, reset: Code | None = None) -> None:
        """It failed: the first attempt is the only one again."""
        first, handler = self.first, self.first.handler
        self.detach(reset)
        if first.rival is self:
            first.rival = None
            if handler is not None:
                handler.second_lost(failure)

    def take_over(self, failure: Failure | None, code: Code | None) -> None:
        """The call is on this attempt from now on; `code` tells the far end of the first one to
        stop, which failed, or None = is late."""
        first, up = self.first, self.up
        first.rival = None
        first.detach(code)
        if up is None:
            return
        first.up, first.up_number, first.route = up, self.up_number, self.route
        self.up, up.streams[self.up_number] = None, first
        if first.made_request is not None:
            first.made_request.window = up.stream_window
        if first.made_answer is not None:
            answer = first.made_answer
            answer.granted, answer.owed, answer.ended = answer.size, 0, False
        if first.handler is not None:
            first.handler.second_takes_over(failure)


def look(stream: Stream, now_s: float) -> None:
    """Ask whether a late call is sent to a second place, too, and do so."""
    handler, stream.look_s = stream.handler, NEVER
    if handler is None or stream.begun or stream.rival is not None:
        return
    again_s = now_s + max(now_s - stream.began_s, 0.0)  # when it is twice as old
    if stream.up is None or not (stream.sent_whole or stream.request.last_frame):
        stream.look_s = again_s
        return
    body = _body(stream)
    if body is None:
        return
    try:
        found = handler.late(now_s, body)
        if not isinstance(found, Route):
            stream.look_s = found
        elif not _send(stream, found, body):
            stream.look_s = again_s
    except FederationError as error:
        stream.fail(error)


def _body(stream: Stream) -> bytes | None:
    """Return what was sent, None if it is not known or too large to be sent twice."""
    replay: tuple[Piece, ...] | None = None if stream.replay is None else tuple(stream.replay)
    route = stream.route
    changed = route is None or route.request is not None or route.answer is not None
    if replay is None or changed or stream.replay_bytes > MOST_BYTES:
        return None
    return b"".join(replay)


def _send(stream: Stream, route: Route, body: bytes) -> bool:
    """Send a call to a second place; False if not all of it can go out at once: there is no
    connection yet, or too little room on it."""
    up = None if route.backend.retired else route.backend.free()
    if up is None or up is stream.up or up.paused or up.blocked:
        return False
    if len(body) > min(up.window, up.stream_window):
        return False
    stream.rival = rival = Rival(stream, route)
    rival.request.hold(body)
    up.open(rival, stream.head.block + route.headers)
    if stream.handler is not None:
        stream.handler.sent_too()
    return True
