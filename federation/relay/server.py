"""The server side of the request path: safe settings, and bodies read with patience that ends.

Input: sockets of clients, and the application of a router or gateway. Output: a running server; the
bytes of a request's body as they come, or an error when the client is too slow or sends too much;
and answers written with backpressure, where a client that stops reading is cut off.
"""

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from aiohttp import http_parser, web

from federation.contract.errors import Conflict, Invalid, TooLarge, Unavailable
from federation.relay.errors import SlowClient
from federation.relay.headers import content_length


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


def make_runner(app: web.Application, limits: ServerLimits | None = None) -> web.AppRunner:
    """Return a runner whose handlers are cancelled when their client goes away."""
    limits = limits or ServerLimits()
    return web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,
        keepalive_timeout=limits.keepalive_s,
        lingering_time=limits.lingering_s,
        max_line_size=limits.max_line_bytes,
        max_field_size=limits.max_field_bytes,
        max_headers=limits.max_headers,
        shutdown_timeout=limits.shutdown_s,
    )


async def listen(runner: web.AppRunner, address: str) -> tuple[str, int]:
    """Start serving on `HOST:PORT` (port 0: any) and return where it listens.

    Raises Conflict if the port is taken, Invalid or Unavailable if the address is no good.
    """
    host, separator, port = address.rpartition(":")
    if not (separator and host and port.isdigit() and int(port) < 65536):
        raise Invalid(f"{address!r} is not an address.", hint="Use HOST:PORT.")
    await runner.setup()
    site = web.TCPSite(runner, host.strip("[]"), int(port), reuse_address=True)
    try:
        await site.start()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise Unavailable(f"Cannot listen on {address}: {error.strerror}.") from None
        raise Conflict(
            f"{address} is in use by another process.",
            hint="Stop it or choose another port.",
            reason="address-in-use",
        ) from None
    bound: tuple[str, int] = runner.addresses[-1][:2]
    return bound


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
            raise _too_large(limits)
        yield chunk


async def read_body(request: web.BaseRequest, limits: BodyLimits) -> bytes:
    """Return a request's whole body; raises as iter_body does."""
    return b"".join([chunk async for chunk in iter_body(request, limits)])


def check_length(request: web.BaseRequest, limits: BodyLimits) -> None:
    """Refuse a body by its announced length, before any of it is read; raises TooLarge."""
    if (content_length(request.headers) or 0) > limits.max_bytes:
        raise _too_large(limits)


def _too_large(limits: BodyLimits) -> TooLarge:
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
            request.transport.abort()
        raise ClientStalled(f"the client took nothing for {stall_s:g} s") from None


def break_off(request: web.BaseRequest) -> None:
    """End an answer that has begun and cannot be completed, so that the client can tell.

    What was written is still delivered; the closing chunk or the missing bytes are not.
    """
    if request.transport:
        request.transport.close()
