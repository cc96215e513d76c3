"""gRPC statuses: of our own errors, of HTTP answers, of broken streams; and as header fields.

Input: errors, HTTP statuses, codes of HTTP/2. Output: numbers as gRPC has them, and the fields that
end an answer (gRPC over HTTP2, "Responses" and "Status").
"""

from enum import IntEnum
from urllib.parse import quote, unquote

from federation.contract.errors import FederationError, grpc_status
from federation.relay.h2.blocks import literal
from federation.relay.h2.wire import Code

_LONGEST_MESSAGE = 1024
_PLAIN = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}~"


class Status(IntEnum):
    """The numbers of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_OF_TEXT = {b"%d" % status: status for status in Status}
_OF_HTTP = {
    400: Status.INTERNAL,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.UNIMPLEMENTED,
    429: Status.UNAVAILABLE,
    502: Status.UNAVAILABLE,
    503: Status.UNAVAILABLE,
    504: Status.UNAVAILABLE,
}  # "HTTP to gRPC Status Code Mapping" of gRPC
_OF_RESET = {
    Code.NO_ERROR: Status.INTERNAL,
    Code.REFUSED_STREAM: Status.UNAVAILABLE,
    Code.CANCEL: Status.CANCELLED,
    Code.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
    Code.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
}


class Unimplemented(FederationError):
    """The called method does not exist here."""

    reason = "unimplemented"


def of_error(error: FederationError) -> Status:
    """Return the status of one of our errors."""
    if isinstance(error, Unimplemented):
        return Status.UNIMPLEMENTED
    return Status[grpc_status(error)]


def of_http(status: bytes) -> Status:
    """Return what an answer without a gRPC status means."""
    return _OF_HTTP.get(int(status) if status.isdigit() else 0, Status.UNKNOWN)


def of_reset(code: int) -> Status:
    """Return what it means that the far end reset a stream."""
    return _OF_RESET.get(Code(code) if code in _CODES else Code.INTERNAL_ERROR, Status.INTERNAL)


_CODES = frozenset(int(code) for code in Code)


def parse(text: bytes) -> Status:
    """Return the status in a field; one that is none is UNKNOWN."""
    found = _OF_TEXT.get(text)
    if found is None:
        number = int(text) if text.isdigit() and len(text) < 4 else 2
        found = Status(number) if number < len(Status) else Status.UNKNOWN
    return found


def fields(status: Status, message: str) -> bytes:
    """Return the fields that tell a status and why."""
    return literal(b"grpc-status", b"%d" % status) + message_field(message)


def message_field(message: str) -> bytes:
    """Return the field that holds a message, cut to a sane length and percent-encoded."""
    coded = quote(message[:_LONGEST_MESSAGE], safe=_PLAIN).encode()
    return literal(b"grpc-message", coded)


def words(message: bytes) -> str:
    """Return a message as it was before it was percent-encoded."""
    return unquote(message.decode("utf-8", "replace"), errors="replace")
