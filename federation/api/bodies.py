"""Request bodies, read strictly and within limits; answers as JSON.

Input: the body of a request. Output: dataclasses, or Invalid that names the key and the key perhaps
meant, TooLarge, or SlowClient.
"""

import hashlib
import re
from http import HTTPStatus
from typing import TypeVar

import msgspec
from aiohttp import web

from federation.api.route import actor
from federation.contract.errors import Invalid
from federation.contract.strict_yaml import Document
from federation.policy.events import Idempotency
from federation.relay.server import BodyLimits, iter_body

T = TypeVar("T")

JSON_LIMITS = BodyLimits(max_bytes=4 * 1024 * 1024)
_KEY = re.compile(r"[!-~]{1,255}")


async def read_document(request: web.Request, limits: BodyLimits = JSON_LIMITS) -> Document:
    """Return the JSON object in the body; raises Invalid, TooLarge or SlowClient."""
    data = bytearray()
    async for chunk in iter_body(request, limits):
        data += chunk
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the body is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise Invalid("the body must be a JSON object.")
    return Document(value, {}, "the body")


async def read_body(request: web.Request, target: type[T], limits: BodyLimits = JSON_LIMITS) -> T:
    """Return the body as `target`, a dataclass; raises Invalid or TooLarge."""
    return converted(await read_document(request, limits), target)


def converted(document: Document, target: type[T]) -> T:
    """Return the document as `target`, a dataclass; raises Invalid."""
    body: T = document.convert(target)
    return body


def idempotency(request: web.Request, document: Document | None = None) -> Idempotency | None:
    """Return the Idempotency-Key of a call with the fingerprint of all that it asks for.

    Raises Invalid. The caller is part of the fingerprint: a key is never answered to a stranger.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise Invalid(
            "the Idempotency-Key is malformed.", hint="Use 1 to 255 visible ASCII characters."
        )
    asked = {
        "caller": actor(request),
        "call": f"{request.method} {request.path_qs}",
        "body": document.value if document else None,
    }
    digest = hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()
    return Idempotency(key=key, fingerprint=digest)


def reply(value: object, *, status: int = HTTPStatus.OK) -> web.Response:
    """Return `value` (a mapping or a dataclass) as JSON."""
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, content_type="application/json")
