"""Where the call came from that is being answered: for the audit log.

Input: a request as it comes in, or a gRPC call. Output: an Origin. The one of an HTTP request is
also kept in the context of the task that answers it, so that handlers need not hand it down.
"""

from contextvars import ContextVar
from typing import TypeVar
from urllib.parse import unquote

import grpc.aio
from aiohttp import web

from federation.policy.audit.events import INSIDE, Origin

_NOW: ContextVar[Origin] = ContextVar("origin", default=INSIDE)
_KEPT = web.RequestKey("origin", Origin)

In = TypeVar("In")
Out = TypeVar("Out")


def enter(request: web.Request, request_id: str) -> None:
    """Keep the origin of a request for all that is done in order to answer it."""
    request[_KEPT] = Origin(source=request.remote or "", request_id=request_id)
    _NOW.set(request[_KEPT])


def origin_now() -> Origin:
    """Return the origin of the HTTP request that this task answers; INSIDE if it answers none."""
    return _NOW.get()


def origin_of(request: web.Request) -> Origin:
    """Return the origin of a request, also of one that was refused before it had an id."""
    kept: Origin | None = request.get(_KEPT)
    return kept or Origin(source=request.remote or "")


def origin_of_call(context: "grpc.aio.ServicerContext[In, Out]") -> Origin:
    """Return the origin of a gRPC call; it has no request id."""
    kind, _, address = unquote(context.peer()).partition(":")  # "ipv4:192.0.2.1:443"
    host = address.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else kind
    return Origin(source=host)
