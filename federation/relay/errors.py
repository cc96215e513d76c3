"""Errors of the request path, in the dialect of the path they happened on.

Input: a FederationError and the path. Output: what the client reads: `/v1` the OpenAI error object,
everything else the V2 object `{"error": "..."}`. Never a traceback, always the remedy.
"""

import json
from typing import NamedTuple

from federation.contract.errors import (
    DeadlineExceeded,
    Exhausted,
    FederationError,
    Invalid,
    Unauthenticated,
    Unavailable,
    http_status,
)
from federation.relay.headers import REFUSED_HEADER
from federation.relay.http1.messages import Response

_NAMED_EVENTS = "/v1/responses"  # its events have names, and are their data's type


class WrongMethod(Invalid):
    """The path exists and takes another method; `allow` names it."""

    reason = "method-not-allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class SlowClient(DeadlineExceeded):
    """The client sent its request more slowly than allowed."""

    reason = "slow-request"


class BadUpstream(FederationError):
    """The far end broke off or answered nonsense; the request may have been executed."""

    reason = "bad-upstream"


class Moved(FederationError):
    """The client had better send this very request to another place, and says that it would."""

    reason = "moved"

    def __init__(self, message: str, *, hint: str, location: str) -> None:
        super().__init__(message, hint=hint)
        self.location = location


class NothingDone(Unavailable):
    """A peer is refused for now, and told that nothing was executed: it may try elsewhere."""

    def __init__(self, error: FederationError, *, refused: str) -> None:
        super().__init__(error.message, hint=error.hint, reason=error.reason)
        self.refused = refused


_OWN_STATUS: tuple[tuple[type[FederationError], int], ...] = (
    (Moved, 307),
    (WrongMethod, 405),
    (SlowClient, 408),
    (BadUpstream, 502),
)
_OPENAI_TYPE = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
RETRY_AFTER_S = 1


class Rendered(NamedTuple):
    """An error as it goes to the client."""

    status: int
    content_type: str
    body: bytes


def status_of(error: FederationError) -> int:
    """Return the HTTP status of an error on the request path."""
    own = (status for cls, status in _OWN_STATUS if isinstance(error, cls))
    return next(own, None) or http_status(error)


def render_error(path: str, error: FederationError) -> Rendered:
    """Return status, content type and body of an error in the dialect of `path`."""
    status = status_of(error)
    return Rendered(status, "application/json", json.dumps(_document(path, error, status)).encode())


def _document(path: str, error: FederationError, status: int) -> dict[str, object]:
    if not is_openai(path):
        return {"error": error.sentence()}
    kind = _OPENAI_TYPE.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = "model_not_found" if error.reason == "unknown-model" else error.reason.replace("-", "_")
    return {"error": {"message": error.sentence(), "type": kind, "param": None, "code": code}}


def is_openai(path: str) -> bool:
    """Return whether errors on this path take the shape of OpenAI's."""
    return path == "/v1" or path.startswith("/v1/")


def sse_error(path: str, error: FederationError) -> bytes:
    """Return the last event of a stream that has to end before its time."""
    document = _document(path, error, status_of(error))
    if path == _NAMED_EVENTS and isinstance(inner := document["error"], dict):
        told = json.dumps({**inner, "type": "error"})
        return b"event: error\ndata: " + told.encode() + b"\n\n"
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def error_headers(error: FederationError) -> dict[str, str]:
    """Return the headers that go with an error: when to come back, what is allowed instead."""
    if isinstance(error, WrongMethod):
        return {"Allow": error.allow}
    if isinstance(error, Moved):
        return {"Location": error.location, "Cache-Control": "no-store"}
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, NothingDone):
        return {REFUSED_HEADER: error.refused}
    if isinstance(error, Unavailable | Exhausted):
        return {"Retry-After": str(RETRY_AFTER_S)}
    return {}


def error_response(path: str, error: FederationError) -> Response:
    """Return an error as a whole response."""
    status, content_type, body = render_error(path, error)
    return Response(
        status=status, body=body, content_type=content_type, headers=error_headers(error)
    )
