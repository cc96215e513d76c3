"""The short way of a call: its request came in one read, and so does its answer.

Input: what a connection read, from a HEADERS frame on. Output: the frames to send on, and the same
questions to the Handler that a call is asked which comes in pieces (see `stream`). Where anything
stands in the way - a window, others that wait, a message that is compressed, an answer that is
none - nothing is done here, and the frames go their usual way.
"""

import struct
from typing import TYPE_CHECKING

from federation.contract.errors import FederationError
from federation.relay.h2.message import PEEK_BYTES, PREFIX_BYTES
from federation.relay.h2.service import Route
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

# The heads of two and of three frames that follow one another (see `wire.pack_head`).
_head = struct.Struct(">IBI").unpack_from
_prefix = struct.Struct(">BI").unpack_from  # of a message: compressed?, length
_WINDOW = 4 << 8 | WINDOW_UPDATE
_ENDS = END_HEADERS | END_STREAM


def take_calls(client: "Client", data: bytes, at: int) -> int:
    """Take calls of one header block and one DATA frame each, with a WINDOW_UPDATE between them as
    grpcio has it; return where the first frame begins that is no such call. Raises Broken."""
    end, most = len(data), client.switch.limits.frame
    while end - at > 2 * HEAD_BYTES:
        kind, flags, number = _head(data, at)
        block_at = at + HEAD_BYTES
        block_ends = block_at + (kind >> 8)
        body_at = block_ends + HEAD_BYTES
        if kind & 255 != HEADERS or flags != END_HEADERS or body_at > end:
            break
        size, ends, same = _head(data, block_ends)
        window_at = 0
        if size == _WINDOW and same == number and body_at + 4 + HEAD_BYTES <= end:
            window_at = body_at
            size, ends, same = _head(data, body_at + 4)
            body_at += 4 + HEAD_BYTES
        stop = body_at + (size >> 8)  # the kind of DATA is 0
        if size & 255 or ends != END_STREAM or same != number or stop > end:
            break
        if max(size, kind) >> 8 > most:
            break
        widened = read_u32(data, window_at)[0] & MAX_WINDOW if window_at else 0
        if window_at and not widened:
            break
        call = number, data[block_at:block_ends], data[body_at:stop], widened
        if not begin(client, *call):
            break
        at = stop
    return at


def begin(client: "Client", number: int, block: bytes, body: bytes, widened: int = 0) -> bool:
    """Begin a call, for whose answer the client opens the window by `widened` bytes more; False if
    it has to go its usual way, and nothing was done. Raises Broken."""
    switch, size = client.switch, len(body)
    if size <= PREFIX_BYTES or _prefix(body) != (0, size - PREFIX_BYTES):
        return False  # compressed, or not exactly one message
    if size > switch.limits.window or not client.may_begin(number):
        return False
    if widened + client.stream_window > MAX_WINDOW:
        return False
    service = switch.service
    try:
        head = service.requests.read(block)
    except Malformed:
        return False
    client.charge(size)
    client.last, client.busy_s = number, switch.read_s
    stream = client.streams[number] = Stream(client, number, head, ended=True)
    stream.widened = widened
    switch.counts.calls += 1
    stream.handler = handler = service.open(head, client.inbound)
    message = body[PREFIX_BYTES : PREFIX_BYTES + PEEK_BYTES]
    size -= PREFIX_BYTES
    start = Start(message, size, size <= PEEK_BYTES, ended=True)
    try:
        found = handler.route(start)
        if isinstance(found, Route) and found.request is not None:
            body = found.request.feed(body)
            found.request.finish()
            found.request = None  # nothing more comes
        if not isinstance(found, Route) or not _sent(stream, found, body):
            request = stream.request
            request.take(size + PREFIX_BYTES)
            request.hold(body)
            stream.follow(found)
            stream.bound(request)
    except FederationError as error:
        stream.fail(error)
    if not stream.gone:
        stream.be_patient(handler)
    return True


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
    end, most = len(data), up.switch.limits.frame
    while end - at > 3 * HEAD_BYTES:
        kind, flags, number = _head(data, at)
        block_at = at + HEAD_BYTES
        body_at = block_at + (kind >> 8) + HEAD_BYTES
        if kind & 255 != HEADERS or flags != END_HEADERS or body_at > end:
            break
        size, ends, same = _head(data, body_at - HEAD_BYTES)
        last_at = body_at + (size >> 8) + HEAD_BYTES
        if size & 255 or ends or same != number or last_at > end:
            break
        last, ends, same = _head(data, last_at - HEAD_BYTES)
        stop = last_at + (last >> 8)
        if last & 255 != HEADERS or ends != _ENDS or same != number or stop > end:
            break
        if max(kind, size, last) >> 8 > most or size < 256:
            break
        stream = up.streams.get(number)
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
    answers, size = client.switch.service.answers, len(body)
    if handler is None or route is None or stream.begun or size > client.switch.limits.window:
        return False
    if not stream.sent_whole or stream.made_answer is not None:
        return False
    head, tail = answers.read(block), answers.read(trailers)
    if head.http_status != b"200" or handler.judge(head, alone=False) is not None:
        return False
    up.charge(size)
    if route.answer is not None:
        try:
            body = route.answer.feed(body)
        except FederationError as error:
            stream.fail(error)
            return True
    stream.begun, stream.replay = True, None
    passed = handler.answer(head, first=True, last=False)
    ends, status = handler.answer(tail, first=False, last=True), parse(tail.grpc_status)
    if client.send_whole(stream.number, passed, body, ends):
        stream.detach()
        stream.release(status, len(body))
    else:
        stream.answer_bit_by_bit(passed, body, ends, status)
    return True
