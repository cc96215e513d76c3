"""What an answer's headers tell: the gateway to the router, and the router to its client.

Input: the head of an answer, the story of a call. Output: numbers, and fields to add.
"""

from functools import lru_cache

from federation.relay.h2.blocks import literal
from federation.relay.h2.heads import AnswerHead
from federation.relay.h2.status import Status
from federation.relay.headers import LOAD_HEADER
from router.policy.shortlist import Option
from router.policy.split import HEADER, marked
from router.policy.table import Resolved

_LOAD = LOAD_HEADER.encode()
_HTTP = {
    Status.OK: 200,
    Status.CANCELLED: 499,
    Status.INVALID_ARGUMENT: 400,
    Status.DEADLINE_EXCEEDED: 504,
    Status.NOT_FOUND: 404,
    Status.ALREADY_EXISTS: 409,
    Status.PERMISSION_DENIED: 403,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.FAILED_PRECONDITION: 400,
    Status.OUT_OF_RANGE: 400,
    Status.UNIMPLEMENTED: 404,
    Status.UNAVAILABLE: 503,
    Status.UNAUTHENTICATED: 401,
}
_GONE = 499
_BY_NUMBER = tuple(_HTTP.get(status, 500) for status in Status)


def load_of(answer: AnswerHead) -> int | None:
    """Return the calls in flight that a gateway reports; what is no sane number is none."""
    text = answer.noted.get(_LOAD, b"")
    return int(text) if text.isdigit() and len(text) < 7 else None


@lru_cache(maxsize=4096)
def way(region: str, cluster: str, version: int, attempts: int, rollout: str = "") -> bytes:
    """Return the fields that say who answered, and the rollout whose canary it was."""
    canary = literal(HEADER.encode(), rollout.encode()) if rollout else b""
    return canary + b"".join(
        (
            literal(b"x-fed-region", region.encode()),
            literal(b"x-fed-cluster", cluster.encode()),
            literal(b"x-fed-model-version", b"%d" % version),
            literal(b"x-fed-attempts", b"%d" % attempts),
        )
    )


def way_of(chosen: Option, resolved: Resolved, attempts: int) -> bytes:
    """Return the same of what was resolved and chosen."""
    canary = marked(resolved.route, resolved.version)
    return way(chosen.region, chosen.cluster, resolved.version, attempts, canary)


def http_status(status: Status | None) -> int:
    """Return the HTTP status that a gRPC status corresponds to, for metrics; None = the client
    left."""
    return _GONE if status is None else _BY_NUMBER[status]
