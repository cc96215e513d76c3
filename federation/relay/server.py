"""The server side of the request path: safe settings, and bodies read with patience that ends.

Input: sockets of clients, and the application of a router or gateway. Output: a running server; the
bytes of a request's body as they come, or an error when the client is too slow or sends too much;
and answers written with backpressure, where a client that stops reading is cut off.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import overload

import aiohttp
from aiohttp import http_parser, web

from federation.contract.errors import Conflict, Invalid, TooLarge, Unavailable
from federation.relay.connections import ConnectionLimits, Connections, GuardedRunner, cut_off
from federation.relay.errors import SlowClient
from federation.relay.headers import content_length
from federation.relay.noise import server_log
from federation.relay.runner import RelayRunner, Served

HANDSHAKE_S = 10.0
READ_BYTES = 64 * 1024  # of a body that are held before the client has to wait
BACKLOG = 2048  # connections that wait to be accepted; the system may allow fewer
FAREWELL_S = 5.0  # for the client to end TLS after we did


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What a server grants its clients.

    `keepalive_s` bounds idle connections and half-sent heads alike; it must be longer than the
    pools of our own clients keep a connection (PoolLimits.keepalive_s).
    """

    keepalive_s: float = 30.0
    lingering_s: float = 2.0
    shutdown_s: float = 5.0
    max_line_bytes: int = 4096
    max_field_bytes: int = 8190
    max_headers: int = 100
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """How large and how slow a request's body may be.

    Only time spent waiting for the client counts, not time that the upstream makes it wait.
    """

    max_bytes: int = 64 * 1024 * 1024
    total_s: float = 60.0
    min_bytes_per_s: int = 1024
    grace_s: float = 5.0


def require_compiled_parser(*, forced: bool = False) -> None:
    """Raise Unavailable if aiohttp fell back to its Python parser, unless `forced`.

    Most request-smuggling advisories on aiohttp concern only that parser.
    """
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy and not forced:
        raise Unavailable(
            "aiohttp runs without its compiled HTTP parser.",
            hint="Install aiohttp from a wheel and unset AIOHTTP_NO_EXTENSIONS.",
            reason="no-compiled-parser",
        )


@overload
def make_runner(app: web.Application, limits: ServerLimits | None = None) -> GuardedRunner: ...
@overload
def make_runner(app: Served, limits: ServerLimits | None = None) -> RelayRunner: ...
def make_runner(
    app: web.Application | Served, limits: ServerLimits | None = None
) -> GuardedRunner | RelayRunner:
    """Return a runner whose handlers are cancelled when their client goes away: of aiohttp's for
    one of its applications, ours for what `make_application` made."""
    limits = limits or ServerLimits()
    connections = Connections(limits.connections)
    if not isinstance(app, web.Application):
        return RelayRunner(app, limits=limits, connections=connections)
    return GuardedRunner(
        app,
        connections=connections,
        handle_signals=False,
        access_log=None,
        logger=server_log(),
        handler_cancellation=True,
        auto_decompress=False,
        keepalive_timeout=limits.keepalive_s,
        lingering_time=limits.lingering_s,
        max_line_size=limits.max_line_bytes,
        max_field_size=limits.max_field_bytes,
        max_headers=limits.max_headers,
        shutdown_timeout=limits.shutdown_s,
        read_bufsize=READ_BYTES,
    )


class _Site(web.BaseSite):
    """A listening socket; over TLS its clients have to shake hands, and to part, in time."""

    def __init__(
        self,
        runner: web.AppRunner,
        where: tuple[str, int] | socket.socket,
        context: ssl.SSLContext | None,
    ) -> None:
        super().__init__(runner, ssl_context=context, backlog=BACKLOG)
        self._where = where

    @property
    def name(self) -> str:
        """Where it listens."""
        host, port = _bound(self._where) if isinstance(self._where, socket.socket) else self._where
        return f"{'https' if self._ssl_context else 'http'}://{host}:{port}"

    async def start(self) -> None:
        """Open the socket."""
        await super().start()
        if self._runner.server is None:
            raise RuntimeError("the runner is not set up")
        over_tls = self._ssl_context is not None
        create = partial(
            asyncio.get_running_loop().create_server,
            self._runner.server,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=HANDSHAKE_S if over_tls else None,
            ssl_shutdown_timeout=FAREWELL_S if over_tls else None,
        )
        if isinstance(self._where, socket.socket):
            self._server = await create(sock=self._where)
        else:
            host, port = self._where
            self._server = await create(host=host, port=port, reuse_address=True)


async def listen(
    runner: web.AppRunner | RelayRunner,
    address: str | socket.socket,
    ssl_context: ssl.SSLContext | None = None,
) -> tuple[str, int]:
    """Start serving on `HOST:PORT` (port 0: any) and return where it listens.

    With `ssl_context` all connections are TLS. A socket that was reserved is served as it is.

    Raises Conflict if the port is taken, Invalid or Unavailable if the address is no good.
    """
    where = address if isinstance(address, socket.socket) else parse_address(address)
    await runner.setup()
    try:
        if isinstance(runner, RelayRunner):
            await runner.listen(
                where,
                ssl_context,
                backlog=BACKLOG,
                handshake_s=HANDSHAKE_S,
                farewell_s=FAREWELL_S,
            )
        else:
            await _Site(runner, where, ssl_context).start()
    except OSError as error:
        raise _no_socket(address, error) from None
    bound: tuple[str, int] = runner.addresses[-1][:2]
    return bound


def reserve(address: str) -> socket.socket:
    """Return a socket that is bound to `HOST:PORT` and refuses all connections until it is served.

    Raises as `listen` does. Names are resolved here: give it numbers, or a moment.
    """
    host, port = parse_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = min(found, key=lambda one: one[0] != socket.AF_INET)
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(where)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise _no_socket(address, error) from None
    return bound


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; raises Invalid."""
    host, separator, port = address.rpartition(":")
    if not (separator and host and port.isdigit() and int(port) < 65536):
        raise Invalid(f"{address!r} is not an address.", hint="Use HOST:PORT.")
    return host.strip("[]"), int(port)


def _no_socket(address: str | socket.socket, error: OSError) -> Conflict | Unavailable:
    if isinstance(address, socket.socket):
        address = "{}:{}".format(*_bound(address))
    if error.errno != errno.EADDRINUSE:
        return Unavailable(f"Cannot listen on {address}: {error.strerror}.")
    return Conflict(
        f"{address} is in use by another process.",
        hint="Stop it or choose another port.",
        reason="address-in-use",
    )


def _bound(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return str(host), int(port)


async def iter_body(request: web.BaseRequest, limits: BodyLimits) -> AsyncIterator[bytes]:
    """Yield a request's body as it comes.

    Raises TooLarge, SlowClient, or Invalid if the body is broken.
    """
    loop, waited_s, received = asyncio.get_running_loop(), 0.0, 0
    check_length(request, limits)
    while True:
        allowed_s = min(limits.total_s, limits.grace_s + received / limits.min_bytes_per_s)
        started = loop.time()
        try:
            async with asyncio.timeout(allowed_s - waited_s):
                chunk = await request.content.readany()
        except TimeoutError:
            raise SlowClient(
                f"The request's body came too slowly: {received} bytes in {allowed_s:.0f} s."
            ) from None
        except aiohttp.web.RequestPayloadError:
            raise Invalid("The request's body broke off or is not validly framed.") from None
        waited_s += loop.time() - started
        if not chunk:
            return
        received += len(chunk)
        if received > limits.max_bytes:
            raise too_large(limits)
        yield chunk


async def read_body(request: web.BaseRequest, limits: BodyLimits) -> bytes:
    """Return a request's whole body; raises as iter_body does."""
    return b"".join([chunk async for chunk in iter_body(request, limits)])


def check_length(request: web.BaseRequest, limits: BodyLimits) -> None:
    """Refuse a body by its announced length, before any of it is read; raises TooLarge."""
    if (content_length(request.headers) or 0) > limits.max_bytes:
        raise too_large(limits)


def too_large(limits: BodyLimits) -> TooLarge:
    """Return the refusal of a body that is larger than its limit."""
    return TooLarge(
        f"The request's body is larger than {limits.max_bytes} bytes.",
        hint="Send less, for example smaller batches.",
    )


class ClientStalled(ConnectionError):
    """The client stopped reading its answer; its connection has been cut."""


async def write(
    request: web.BaseRequest, response: web.StreamResponse, chunk: bytes, stall_s: float
) -> None:
    """Write a piece of the answer as soon as the client takes it.

    Raises ClientStalled if it takes nothing for `stall_s`, ConnectionError if it is gone.
    """
    try:
        async with asyncio.timeout(stall_s):
            await response.write(chunk)
    except TimeoutError:
        if request.transport:
            cut_off(request.transport)
        raise ClientStalled(f"the client took nothing for {stall_s:g} s") from None


def break_off(request: web.BaseRequest) -> None:
    """End an answer that has begun and cannot be completed, so that the client can tell.

    What was written is still delivered; the closing chunk or the missing bytes are not.
    """
    if request.transport:
        request.transport.close()
