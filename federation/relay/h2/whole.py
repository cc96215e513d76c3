"""The short way of a call: its request came in one read, and so does its answer.

Input: what a connection read, from a HEADERS frame on. Output: the frames to send on, and the same
questions to the Handler that a call is asked which comes in pieces (see `stream`). Where anything
stands in the way - a window, others that wait, a message that is compressed, an answer that is
none - nothing is done here, and the frames go their usual way.
"""

import struct
from typing import TYPE_CHECKING

from federation.contract.errors import FederationError
from federation.relay.h2.heads import AnswerHead
from federation.relay.h2.message import PEEK_BYTES, PREFIX_BYTES
from federation.relay.h2.service import Handler, Held, Reply, Route
from federation.relay.h2.start import Start
from federation.relay.h2.status import parse
from federation.relay.h2.stream import Stream
from federation.relay.h2.wire import (
    END_HEADERS,
    END_STREAM,
    HEAD_BYTES,
    HEADERS,
    MAX_WINDOW,
    WINDOW_UPDATE,
    Malformed,
    read_u32,
)

if TYPE_CHECKING:
    from federation.relay.h2.client import Client
    from federation.relay.h2.upstream import Up

_head = struct.Struct(">IBI").unpack_from  # of a frame (see `wire.pack_head`)
_message = struct.Struct(">IBIBI").unpack_from  # the same, and of a message: compressed?, length
_MESSAGE_BYTES = HEAD_BYTES + PREFIX_BYTES
_WINDOW = 4 << 8 | WINDOW_UPDATE
_ENDS = END_HEADERS | END_STREAM
_ROOM = 4096  # bytes of a header block, for what a Handler adds to it


def take_calls(client: "Client", data: bytes, at: int) -> int:
    """Take calls of one header block and one DATA frame each, with a WINDOW_UPDATE between them as
    grpcio has it; return where the first frame begins that is no such call. Raises Broken."""
    end, most = len(data), client.most_whole
    while end - at > 2 * HEAD_BYTES:
        kind, flags, number = _head(data, at)
        block_at = at + HEAD_BYTES
        block_ends = block_at + (kind >> 8)
        if flags != END_HEADERS or kind & 255 != HEADERS or block_ends + _MESSAGE_BYTES > end:
            break
        size, ends, same, compressed, length = _message(data, block_ends)
        body_at, widened = block_ends + HEAD_BYTES, 0
        if size == _WINDOW:
            widened = read_u32(data, body_at)[0] & MAX_WINDOW
            body_at += 4 + HEAD_BYTES
            if not widened or same != number or body_at + PREFIX_BYTES > end:
                break
            size, ends, same, compressed, length = _message(data, body_at - HEAD_BYTES)
        stop = body_at + (size >> 8)  # the kind of DATA is 0
        if size & 255 or ends != END_STREAM or same != number or stop > end:
            break
        if compressed or length != stop - body_at - PREFIX_BYTES or size > most or kind > most:
            break  # not exactly one message, or one that is large
        whole = data[block_at:block_ends], data[body_at:stop]
        if not client.may_begin(number, widened) or not begin(client, number, whole, widened):
            break
        at = stop
    return at


def begin(client: "Client", number: int, whole: tuple[bytes, bytes], widened: int) -> bool:
    """Begin a call, for whose answer the client opens the window by `widened` bytes more; False if
    it has to go its usual way, and nothing was done. Raises Broken."""
    (block, body), switch = whole, client.switch
    size, service = len(body), switch.service
    try:
        head = service.requests.read(block)
    except Malformed:
        return False
    client.charge(size)
    client.last, client.busy_s = number, switch.read_s
    stream = client.streams[number] = Stream(client, number, head, ended=True)
    if widened:
        stream.widened = widened
    switch.fresh[stream] = None
    switch.counts.calls += 1
    stream.handler = handler = service.open(head, client.inbound)
    try:
        found = handler.at_once(body)
        if found is None:
            _ask(stream, handler, body)
        elif isinstance(found, Route):
            up = None if found.backend.retired else found.backend.free()
            if up is not None and up.open_whole(stream, head.block + found.headers, body):
                stream.route, stream.replay, stream.replay_bytes = found, (body,), size
            else:
                _follow_kept(stream, found, body)
        else:
            _follow_kept(stream, found, body)
    except FederationError as error:
        stream.fail(error)
    return True


def _ask(stream: Stream, handler: Handler, body: bytes) -> None:
    """Ask where a call goes that is not like others; raises FederationError."""
    message = body[PREFIX_BYTES : PREFIX_BYTES + PEEK_BYTES]
    size = len(body) - PREFIX_BYTES
    found = handler.route(Start(message, size, size <= PEEK_BYTES, ended=True))
    if isinstance(found, Route):
        if found.request is not None:
            body = found.request.at_once(body)
            found.request = None  # nothing more comes
        if _sent(stream, found, body):
            return
    _follow(stream, found, body)


def _follow_kept(stream: Stream, found: Route | Held, body: bytes) -> None:
    """The same as `_follow` for a call whose body is counted as kept."""
    if stream.handler is not None:
        stream.handler.keep(-len(body))  # it is kept again as it is sent, bit by bit
    _follow(stream, found, body)


def _follow(stream: Stream, found: Route | Reply | Held | None, body: bytes) -> None:
    """Do as was decided, bit by bit; raises FederationError."""
    request = stream.request
    request.take(len(body))
    request.hold(body)
    stream.follow(found)
    stream.bound(request)


def _sent(stream: Stream, route: Route, body: bytes) -> bool:
    """Send a request on at once, if that can be done; raises FederationError."""
    backend = route.backend
    up = None if backend.retired else backend.free()
    if up is None or not up.open_whole(stream, stream.head.block + route.headers, body):
        return False
    stream.route = route
    size = len(body)
    handler, most = stream.handler, stream.client.switch.limits.replay_bytes
    if size <= most and handler is not None and handler.keep(size):
        stream.replay, stream.replay_bytes = (body,), size
    else:
        stream.replay = None
    return True


def take_answers(up: "Up", data: bytes, at: int) -> int:
    """Take answers of a header block, one DATA frame and trailers each; return where the first
    frame begins that is none of such an answer. Raises Broken."""
    end, most, streams = len(data), up.most_whole, up.streams
    while end - at > 3 * HEAD_BYTES:
        kind, flags, number = _head(data, at)
        block_at = at + HEAD_BYTES
        body_at = block_at + (kind >> 8) + HEAD_BYTES
        if flags != END_HEADERS or kind & 255 != HEADERS or body_at > end:
            break
        size, ends, same = _head(data, body_at - HEAD_BYTES)
        last_at = body_at + (size >> 8) + HEAD_BYTES
        if size & 255 or ends or same != number or last_at > end:
            break
        last, ends, same = _head(data, last_at - HEAD_BYTES)
        stop = last_at + (last >> 8)
        if last & 255 != HEADERS or ends != _ENDS or same != number or stop > end:
            break
        if size > most or kind > most or last > most or size < 256:
            break
        stream = streams.get(number)
        if stream is None or up.closed:
            break
        block = data[block_at : body_at - HEAD_BYTES]
        body = data[body_at : last_at - HEAD_BYTES]
        if not answer(up, stream, block, body, data[last_at:stop]):
            break
        at = stop
    return at


def answer(up: "Up", stream: Stream, block: bytes, body: bytes, trailers: bytes) -> bool:
    """Send an answer on; False if it has to go its usual way, and nothing was done. Raises
    Broken."""
    handler, client, route = stream.handler, stream.client, stream.route
    switch, size = client.switch, len(body)
    answers = switch.service.answers
    if handler is None or route is None or stream.begun:
        return False
    if not stream.sent_whole or stream.made_answer is not None:
        return False
    head, tail = answers.read(block), answers.read(trailers)
    if head.http_status != b"200":
        return False
    longest = _ROOM + len(block) + len(trailers)
    if tail.grpc_status == b"0" and route.answer is None and client.takes(size, longest):
        told = handler.answered(head)
        if told is not None:
            up.charge(size)
            client.send_answer(stream.number, told, body, tail.block)
            _over(up, stream, client)
            return True
    return _judged(up, stream, (head, body, tail))


def _over(up: "Up", stream: Stream, client: "Client") -> None:
    """A call that came whole and was answered whole is over: `Stream.detach` and `release`, without
    what it never had."""
    switch = client.switch
    stream.gone, stream.up = True, None
    client.busy_s = up.busy_s = switch.read_s
    del up.streams[stream.up_number]
    del client.streams[stream.number]
    if stream in switch.fresh:
        del switch.fresh[stream]
    else:
        switch.wheel.disarm(stream)
    if up.leaving:
        up.close_if_done()
    if up.backend.wanted:
        up.backend.more()
    if not client.streams:
        client.close_if_done()


def _judged(up: "Up", stream: Stream, whole: tuple[AnswerHead, bytes, AnswerHead]) -> bool:
    """Send an answer on that has to be looked at, or changed."""
    (head, body, tail), client = whole, stream.client
    handler, route, size = stream.handler, stream.route, len(body)
    if handler is None or route is None or handler.judge(head, alone=False) is not None:
        return False
    up.charge(size)
    if route.answer is not None:
        try:
            body = route.answer.at_once(body)
        except FederationError as error:
            stream.fail(error)
            return True
    stream.answer_begins()
    passed = handler.answer(head, first=True, last=False)
    ends, status = handler.answer(tail, first=False, last=True), parse(tail.grpc_status)
    if client.takes(len(body), max(len(passed), len(ends))):
        client.send_answer(stream.number, passed, body, ends)
        stream.detach()
        stream.release(status, len(body))
    else:
        stream.answer_bit_by_bit(passed, body, ends, status)
    return True
