"""Refusals as RFC 9457 problem documents, the only error form of the operator API.

Input: whatever a handler raised. Output: an application/problem+json response with a request id.
What nobody foresaw is logged with its traceback and answered with 500 and that id alone.
"""

import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from federation.api.origin import enter
from federation.contract.errors import Conflict, FederationError, NotFound
from federation.contract.names import did_you_mean
from federation.contract.resources import KINDS
from federation.relay.errors import status_of
from federation.runtime.telemetry import redact

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
NAMED_CHUNKS = 1000  # in one answer
REQUEST_ID = "x-request-id"
REFUSAL = web.ResponseKey("refusal", FederationError)  # what an answer tells, for `denials`
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class MissingChunks(Conflict):
    """Chunks of a pushed version are not stored; `missing` are the BLAKE3s of the first ones."""

    reason = "missing-chunks"

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = tuple(missing[:NAMED_CHUNKS])
        super().__init__(
            f"{len(missing)} chunks of the package are not stored.",
            hint="POST them to /api/v1/chunks, then repeat this call.",
        )


def problem(error: FederationError) -> web.Response:
    """Return the problem document of an error of ours."""
    extensions = {"missing": error.missing} if isinstance(error, MissingChunks) else {}
    response = problem_response(
        status_of(error), error.reason, error.message, hint=error.hint, **extensions
    )
    response[REFUSAL] = error
    return response


def problem_response(
    status: int, reason: str, detail: str, *, hint: str = "", **extensions: Any
) -> web.Response:
    """Return a problem document. Its type is about:blank: `reason` is what machines read."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "reason": reason,
        "hint": hint,
        **extensions,
    }
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    body = msgspec.json.encode(document)
    return web.Response(status=status, body=body, content_type=PROBLEM_JSON, headers=headers)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception into a problem document, and give every answer a request id."""
    given = request.headers.get(REQUEST_ID, "")
    sane = _SANE_ID.fullmatch(given) and redact(given) == given  # it will stand in logs
    request_id = given if sane else uuid.uuid4().hex
    enter(request, request_id)
    try:
        response = await handler(request)
    except FederationError as error:
        response = problem(error)
    except web.HTTPException as error:
        response = _of_framework(request, error)
    except (ConnectionError, aiohttp.ClientPayloadError):
        response = problem_response(400, "cut", "the request's body ended too early.")
    except Exception:
        log.exception("request failed", extra={"request_id": request_id, "path": request.path})
        told = f"something went wrong here; the log tells more of request {request_id}."
        response = problem_response(500, "internal", told)
    if not response.prepared:
        response.headers[REQUEST_ID] = request_id
    return response


@contextmanager
def after_the_head(request: web.Request) -> Iterator[None]:
    """Guard a streamed body: a caller that left is no failure of ours.

    Whatever else goes wrong once the head was sent cuts the connection: a second head must never
    follow it, and a short body must not look whole.
    """
    try:
        yield
    except ConnectionError:
        return
    except BaseException:
        if request.transport:
            request.transport.abort()
        raise


def _of_framework(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """Translate what aiohttp itself refuses: unknown paths, wrong methods."""
    if isinstance(error, web.HTTPNotFound):
        return problem(_unknown_path(request.path))
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        response = problem_response(
            405, "method-not-allowed", f"{request.method} is not possible here.", hint=f"{allowed}."
        )
        response.headers["Allow"] = allowed
        return response
    return problem_response(error.status, "refused", f"{error.reason}.")


def _unknown_path(path: str) -> NotFound:
    parts = path.strip("/").split("/")
    plurals = [kind.plural for kind in KINDS]
    if parts[:2] == ["api", "v1"] and len(parts) in (3, 4) and parts[2] not in plurals:
        return NotFound(
            f"there is no resource kind {parts[2]!r}.", hint=did_you_mean(parts[2], plurals)
        )
    return NotFound(f"there is nothing at {path}.", hint="All paths are told by /openapi.json.")
