"""Requests without connections: a head, and as much of a body as a test wants."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from federation.relay.http1.heads import RequestHead, parse_request, write_head
from federation.relay.http1.inflow import Inflow, Taker
from federation.relay.http1.messages import Request
from federation.relay.http1.server import ServerConnection
from federation.relay.http1.waiting import Pause


class QuietTransport(asyncio.Transport):
    """A transport that goes nowhere and notes what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.reading = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Nothing comes from here."""

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def head_of(method: str, target: str, headers: Mapping[str, str] | None = None) -> RequestHead:
    """Return a head as the parser makes it."""
    fields = {"Host": "x", **(headers or {})}
    return parse_request(write_head(f"{method} {target} HTTP/1.1", fields.items()))


def request_of(method: str, target: str, headers: Mapping[str, str] | None = None) -> Request:
    """Return a request without a body and without a connection."""
    return Request(cast(ServerConnection, None), head_of(method, target, headers), None)


class _Patient:
    """The part of a connection that a body's reader needs; it waits as long as it must."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def body_piece(
        self, body: Inflow, patience_s: float, taker: Taker | None = None
    ) -> Pause | None:
        if taker is not None:
            return await body.pour(taker)
        await body.pause()
        return None


def request_with(
    method: str, target: str, content: bytes, headers: Mapping[str, str] | None = None
) -> Request:
    """Return a request of whose body `content` has come; its headers tell how long it is."""
    head = head_of(method, target, headers)
    body = Inflow(QuietTransport(), asyncio.get_running_loop(), head.length)
    if head.chunked:
        body.expect_chunks()
    if content:
        body.feed(content)
    return Request(cast(ServerConnection, _Patient()), head, body)
