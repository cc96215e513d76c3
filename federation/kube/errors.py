"""What an API server can refuse, and how its answers become these errors.

Input: HTTP statuses with Status objects, as `federation.kube.api` receives them. Output: one class
per thing that callers handle differently. https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

import re
from collections.abc import Mapping
from typing import Any

from federation.contract.errors import FederationError

MAX_MESSAGE = 500  # characters of an API server's words that are kept
MAX_RETRY_AFTER_S = 120.0


class KubeError(FederationError):
    """The API server refused or could not be asked; `status` is its HTTP status, 0 without one."""

    reason = "kubernetes"

    def __init__(self, message: str, *, status: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Unavailable(KubeError):
    """No answer, one that makes no sense, or a 5xx: the same request may work later."""


class Unusable(KubeError):
    """The configuration or the credentials that lead to the API server cannot be used."""


class Throttled(KubeError):
    """The API server is saturated (429, or a status with Retry-After)."""

    def __init__(self, message: str, *, status: int = 429, retry_after_s: float = 0.0) -> None:
        super().__init__(message, status=status)
        self.retry_after_s = retry_after_s


class Gone(KubeError):
    """What was asked for is too old to be known (410): list again."""


class Unauthorized(KubeError):
    """The API server does not know who asks (401)."""


class Forbidden(KubeError):
    """We may not do this (403)."""


class NotFound(KubeError):
    """There is no such object, or no such kind of objects (404)."""


class Conflict(KubeError):
    """Somebody else changed it first, or manages these fields (409)."""

    def __init__(self, message: str, *, status: int = 409, managers: tuple[str, ...] = ()) -> None:
        super().__init__(message, status=status)
        self.managers = managers  # who manages the fields that an apply wanted to set


class Refused(KubeError):
    """The API server will never accept this object or request (400, 422, ...)."""


_BY_STATUS: dict[int, type[KubeError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    410: Gone,
    504: Unavailable,
}


def error_of(status: int, body: object, headers: Mapping[str, str] | None = None) -> KubeError:
    """Return the error that an answer with this HTTP status, or an ERROR event, stands for."""
    message = _message(status, body)
    retry_after_s = _retry_after_s(body, headers or {})
    if status == 429 or (status >= 500 and retry_after_s):
        return Throttled(message, status=status, retry_after_s=retry_after_s)
    if status == 409:
        return Conflict(message, managers=_managers(body))
    if status in _BY_STATUS:
        return _BY_STATUS[status](message, status=status)
    return (Unavailable if status >= 500 or status < 400 else Refused)(message, status=status)


def _message(status: int, body: object) -> str:
    told = body.get("message") if isinstance(body, dict) else None
    if not isinstance(told, str) or not told:
        return f"the API server answered with the status {status}."
    told = " ".join(told.split())
    return told if len(told) <= MAX_MESSAGE else told[: MAX_MESSAGE - 3] + "..."


def _retry_after_s(body: object, headers: Mapping[str, str]) -> float:
    """Return the wait that the server asks for; a date instead of seconds counts as none."""
    details: Any = body.get("details") if isinstance(body, dict) else None
    told = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    text = headers.get("Retry-After", "").strip() or (str(told) if isinstance(told, int) else "")
    if not text.isdecimal():
        return 0.0
    return min(float(text), MAX_RETRY_AFTER_S)


def _managers(body: object) -> tuple[str, ...]:
    details: Any = body.get("details") if isinstance(body, dict) else None
    causes = details.get("causes") if isinstance(details, dict) else None
    found: dict[str, None] = {}
    for cause in causes if isinstance(causes, list) else ():
        text = str(cause.get("message", "")) if isinstance(cause, dict) else ""
        if matched := re.match(r'conflict with "([^"]*)"', text):
            found[matched[1]] = None
    return tuple(found)
