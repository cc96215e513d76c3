"""Three readers of the same bytes: ours, llhttp (httptools) and h11.

Input: what a client sends on one connection. Output: for each reader the requests that it sees, and
how it ended. Readers may be stricter than each other; where two go on, they must see the same.
"""

from dataclasses import dataclass, field

import h11
import httptools

from federation.relay.http1.chunks import ChunkReader
from federation.relay.http1.heads import BadMessage, check_beginning, parse_request

Seen = tuple[str, str, bytes]  # method, target, body


@dataclass
class Reading:
    """`over` = it reads nothing more, whatever comes."""

    requests: list[Seen] = field(default_factory=list)
    over: bool = False


def ours(data: bytes) -> Reading:
    """Read as our server does."""
    reading = Reading()
    try:
        while data and not reading.over:
            while data.startswith(b"\r\n"):
                data = data[2:]
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                check_beginning(data)
                return reading
            head, data = parse_request(data[:end]), data[end:]
            body = b""
            if head.chunked:
                reader = ChunkReader()
                body, used = reader.feed(data)
                if not reader.done:
                    return reading
                data = data[used:]
            elif head.length:
                if len(data) < head.length:
                    return reading
                body, data = data[: head.length], data[head.length :]
            reading.requests.append((head.method, head.target, body))
            reading.over = not head.persistent
    except BadMessage:
        reading.over = True
    return reading


class _Callbacks:
    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.url = self.body = b""

    def on_message_begin(self) -> None:
        self.url = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            self.reading.over = True  # it would now speak something else
            return
        method = self.parser.get_method().decode("latin-1")
        self.reading.requests.append((method, self.url.decode("latin-1"), self.body))
        self.reading.over = not self.parser.should_keep_alive()

    parser: httptools.HttpRequestParser


def llhttp(data: bytes) -> Reading:
    """Read as llhttp does, strictly."""
    reading = Reading()
    callbacks = _Callbacks(reading)
    callbacks.parser = httptools.HttpRequestParser(callbacks)
    try:
        callbacks.parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        reading.over = True
    return reading


def with_h11(data: bytes) -> Reading:
    """Read as h11 does."""
    reading, connection = Reading(), h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                method, target = request.method.decode(), request.target.decode("latin-1")
                reading.requests.append((method, target, body))
                if method in ("CONNECT", "HEAD") or connection.their_state is not h11.DONE:
                    reading.over = True
                    return reading
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    reading.over = True
                    return reading
                connection.start_next_cycle()
            else:
                return reading
    except h11.ProtocolError:
        reading.over = True
    return reading


def disagreement(one: Reading, other: Reading) -> str:
    """Return where two readers could lose each other on one connection, "" if nowhere."""
    for number, (a, b) in enumerate(zip(one.requests, other.requests, strict=False)):
        if a != b:
            return f"request {number}: {a!r} and {b!r}"
    if len(one.requests) > len(other.requests) and not other.over:
        return f"{len(one.requests)} and {len(other.requests)} requests, and the other waits"
    if len(other.requests) > len(one.requests) and not one.over:
        return f"{len(one.requests)} requests, and it waits, and {len(other.requests)}"
    return ""
