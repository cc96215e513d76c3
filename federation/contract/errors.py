"""One error tree, and the two tables that turn it into gRPC and HTTP statuses.

Input: raised anywhere in the three roles. Output: the edges (`api`, `proxy`, `gateway`, `cli`) look
the class up in HTTP_STATUS or GRPC_STATUS and show `message` and `hint`; `reason` is for machines.
"""


class FederationError(Exception):
    """A refusal or failure with one clear sentence, a remedy, and a machine-readable reason."""

    reason = "internal"

    def __init__(self, message: str, *, hint: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.reason = reason or type(self).reason

    def sentence(self) -> str:
        """Return message and remedy as one line for a human."""
        return f"{self.message} {self.hint}".strip()


class Invalid(FederationError):
    """The request or document cannot be accepted as it is."""

    reason = "invalid"


class Unauthenticated(FederationError):
    """No or unknown credentials."""

    reason = "unauthenticated"


class PermissionDenied(FederationError):
    """Known credentials that may not do this."""

    reason = "permission-denied"


class NotFound(FederationError):
    """The named object does not exist."""

    reason = "not-found"


class AlreadyExists(FederationError):
    """An object of that name exists already."""

    reason = "already-exists"


class Conflict(FederationError):
    """The object changed since it was read, or is in a state that forbids this."""

    reason = "conflict"


class TooLarge(FederationError):
    """More bytes than the limit allows."""

    reason = "too-large"


class Exhausted(FederationError):
    """Saturated: try again later."""

    reason = "exhausted"


class Unavailable(FederationError):
    """Nothing that could answer is reachable now."""

    reason = "unavailable"


class DeadlineExceeded(FederationError):
    """The time allowed ran out."""

    reason = "deadline-exceeded"


class InvalidTransition(Conflict):
    """A state machine refused an event; the message tells the object's last transitions."""

    reason = "invalid-transition"

    def __init__(self, subject: str, state: str, event: str, story: tuple[str, ...] = ()) -> None:
        told = f" Its last transitions: {'; '.join(story)}." if story else ""
        super().__init__(f"{subject} is {state} and cannot take {event}.{told}")


HTTP_STATUS: dict[type[FederationError], int] = {
    Invalid: 400,
    Unauthenticated: 401,
    PermissionDenied: 403,
    NotFound: 404,
    AlreadyExists: 409,
    Conflict: 409,
    InvalidTransition: 409,
    TooLarge: 413,
    Exhausted: 429,
    Unavailable: 503,
    DeadlineExceeded: 504,
    FederationError: 500,
}

# Names of grpc.StatusCode members: this module must not import grpc.
GRPC_STATUS: dict[type[FederationError], str] = {
    Invalid: "INVALID_ARGUMENT",
    Unauthenticated: "UNAUTHENTICATED",
    PermissionDenied: "PERMISSION_DENIED",
    NotFound: "NOT_FOUND",
    AlreadyExists: "ALREADY_EXISTS",
    Conflict: "ABORTED",
    InvalidTransition: "FAILED_PRECONDITION",
    TooLarge: "RESOURCE_EXHAUSTED",
    Exhausted: "RESOURCE_EXHAUSTED",
    Unavailable: "UNAVAILABLE",
    DeadlineExceeded: "DEADLINE_EXCEEDED",
    FederationError: "INTERNAL",
}

BY_REASON: dict[str, type[FederationError]] = {
    cls.reason: cls for cls in HTTP_STATUS if cls is not InvalidTransition
}


def http_status(error: FederationError) -> int:
    """Return the HTTP status of an error, by its nearest class in the table."""
    return next(HTTP_STATUS[cls] for cls in type(error).__mro__ if cls in HTTP_STATUS)


def grpc_status(error: FederationError) -> str:
    """Return the name of the `grpc.StatusCode` of an error, by its nearest class in the table."""
    return next(GRPC_STATUS[cls] for cls in type(error).__mro__ if cls in GRPC_STATUS)
