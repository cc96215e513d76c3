"""gRPC servers and channels with the settings that every peer of the federation uses.

Input: addresses, and the certificates to show. Output: grpc.aio servers and channels; keepalive
finds dead peers within half a minute (server and client must agree, or the server answers GOAWAY
"too many pings").
"""

import asyncio
from typing import TypeVar

import grpc
import grpc.aio

from federation.contract.errors import FederationError, grpc_status

In = TypeVar("In")
Out = TypeVar("Out")

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_SHARED = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]
CLIENT_OPTIONS = [
    *_SHARED,
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
]
SERVER_OPTIONS = [
    *_SHARED,
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),  # a port in use is an error, never shared
]


def connect(
    address: str, credentials: grpc.ChannelCredentials | None = None, server_name: str = ""
) -> grpc.aio.Channel:
    """Return a channel to `host:port`; it connects and reconnects by itself.

    With `credentials` it is mutual TLS, and the server's certificate must carry `server_name`
    (empty = the host of the address): that is the identity it must prove, wherever it is dialled.
    """
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
    named = [("grpc.ssl_target_name_override", server_name)] if server_name else []
    return grpc.aio.secure_channel(address, credentials, options=[*CLIENT_OPTIONS, *named])


def serve() -> grpc.aio.Server:
    """Return a server without services or ports."""
    return grpc.aio.server(options=SERVER_OPTIONS)


def add_port(
    server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None = None
) -> int:
    """Have a server listen on `host:port` and return the port; with `credentials` it is TLS.

    Raises RuntimeError when the address cannot be used, as grpc does.
    """
    if credentials is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, credentials)


def heed_cancellation() -> None:
    """Raise CancelledError if this task was cancelled. To be called after a stream has ended.

    When a stream ends in the same turn of the loop in which its reader is cancelled, grpc.aio tells
    of the end only: whoever then connects again would go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def abort_with(context: "grpc.aio.ServicerContext[In, Out]", error: FederationError) -> None:
    """End a call with the status of `error`; raises, as `context.abort` does."""
    trailers = (("fed-reason", error.reason),)
    await context.abort(grpc.StatusCode[grpc_status(error)], error.sentence(), trailers)
