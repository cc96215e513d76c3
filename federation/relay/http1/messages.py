"""What a handler gets, and what it gives.

Input: a RequestHead and the body behind it. Output: Response (whole) or StreamResponse (bit by
bit), written to the connection that the request came on.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from multidict import CIMultiDict

from federation.relay.http1.chunks import LAST, chunk
from federation.relay.http1.heads import RequestHead
from federation.relay.http1.inflow import Inflow
from federation.relay.http1.waiting import Pause

if TYPE_CHECKING:
    import asyncio

    from federation.relay.http1.server import ServerConnection

FIRST = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}
_BODYLESS = frozenset({204, 304})
_COPIED_BYTES = 16 * 1024  # larger pieces are not copied to put them between their line ends
_READ_BYTES = 1 << 20
_Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class Request:
    """One request. `body` is None if it has none; `kept` is for whoever handles it."""

    __slots__ = ("begun", "body", "connection", "head", "headers", "kept", "method", "raw_path")

    def __init__(
        self, connection: "ServerConnection", head: RequestHead, body: Inflow | None
    ) -> None:
        self.connection = connection
        self.head = head
        self.method = head.method
        self.raw_path = head.target
        self.headers = head.headers
        self.body = body
        self.kept: Any = None
        self.begun = False  # whether a byte of its answer was sent

    def __repr__(self) -> str:
        return f"Request({self.method} {self.raw_path[:80]})"

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.raw_path.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The target's query; of a name that stands there twice, the last value."""
        return dict(parse_qsl(self.raw_path.partition("?")[2], keep_blank_values=True))

    @property
    def remote(self) -> str:
        """The client's address, "" where there is none."""
        return self.connection.remote

    @property
    def transport(self) -> "asyncio.Transport":
        """The connection below."""
        return self.connection.transport

    async def read(self) -> bytes:
        """Return a small body, however slowly it comes; `bodies.read_body` has limits."""
        pieces: list[bytes] = []
        while self.body is not None:
            piece = self.body.take()
            if not piece and self.body.ended:
                break
            if not piece:
                await self.body.pause()
            pieces.append(piece)
            if sum(map(len, pieces)) > _READ_BYTES:
                raise ValueError("the body is too large to be read without limits")
        return b"".join(pieces)


class StreamResponse:
    """An answer whose body is written bit by bit; chunked, unless `content_length` is set."""

    def __init__(self, *, status: int = 200, headers: _Headers = ()) -> None:
        self.status = status
        self.headers = headers if isinstance(headers, CIMultiDict) else CIMultiDict(headers)
        self.content_length: int | None = None
        self.prepared = False
        self.closes = False  # the connection ends with it
        self._chunked = False
        self._silent = False  # it has no body, whatever is written
        self._request: Request | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.status}, prepared={self.prepared})"

    def force_close(self) -> None:
        """End the connection with this answer."""
        self.closes = True

    async def prepare(self, request: Request) -> None:
        """Send the head."""
        self.begin(request)

    def begin(self, request: Request) -> None:
        """Send the head, now; raises ConnectionError if the client is gone."""
        head = self._head(request)
        if head:
            request.connection.write(head)

    def begin_with(self, request: Request, first: bytes) -> Pause | None:
        """Send the head and a first piece of the body in one write, which wakes the client once;
        else as `begin` and `put` do."""
        pieces = (self._head(request), *self._framed(first))
        if len(first) <= _COPIED_BYTES:
            request.connection.write(b"".join(pieces))
        else:
            request.connection.write_all(pieces)
        return request.connection.wait_until_taken()

    def _head(self, request: Request) -> bytes:
        if self.prepared:
            return b""
        self.prepared, self._request = True, request
        connection = request.connection
        connection.about_to_answer(request, self)
        self._silent = request.method == "HEAD" or self.status in _BODYLESS
        fields = list(self.headers.items())
        if self.content_length is not None:
            fields.append(("Content-Length", str(self.content_length)))
        elif self.status in _BODYLESS:
            pass
        elif request.head.minor:
            self._chunked = True
            fields.append(("Transfer-Encoding", "chunked"))
        else:
            self.closes = True
        first = FIRST.get(self.status) or f"HTTP/1.1 {self.status} "
        return connection.head(request, self, first, fields)

    async def write(self, content: bytes) -> None:
        """Send a piece of the body; returns when the client has taken enough of it. Raises
        ConnectionError if the client is gone."""
        if (wait := self.put(content)) is not None:
            await wait

    def put(self, content: bytes) -> Pause | None:
        """Send a piece of the body now; return what to wait for before the next one."""
        if self._request is None:
            raise RuntimeError("prepare() was not called")
        connection = self._request.connection
        pieces = self._framed(content)
        if len(pieces) == 1:
            connection.write(pieces[0])
        elif pieces:
            connection.write_all(pieces)
        return connection.wait_until_taken()

    def _framed(self, content: bytes) -> tuple[bytes, ...]:
        if self._silent or not content:
            return ()
        if not self._chunked:
            return (content,)
        if len(content) <= _COPIED_BYTES:
            return (chunk(content),)
        return b"%x\r\n" % len(content), content, b"\r\n"

    def finish(self) -> None:
        """Send the end."""
        if self._chunked and not self._silent and self._request is not None:
            self._chunked = False
            self._request.connection.write(LAST)

    async def write_eof(self) -> None:
        """Send the end."""
        self.finish()


class Response(StreamResponse):
    """A whole answer."""

    def __init__(
        self,
        *,
        status: int = 200,
        body: bytes = b"",
        text: str | None = None,
        headers: _Headers = (),
        content_type: str = "",
    ) -> None:
        super().__init__(status=status, headers=headers)
        self.body = body if text is None else text.encode()
        self.content_length = None if status in _BODYLESS else len(self.body)
        if text is not None and not content_type:
            content_type = "text/plain; charset=utf-8"
        if content_type:
            self.headers["Content-Type"] = content_type

    def begin(self, request: Request) -> None:
        """Send all of it, now."""
        if self.prepared:
            return
        head = self._head(request)
        body = b"" if self._silent else self.body
        if len(body) <= _COPIED_BYTES:
            request.connection.write(head + body)
        else:
            request.connection.write_all((head, body))
