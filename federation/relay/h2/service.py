"""What a switch asks of the router or gateway that it works for.

Input: heads of calls and of answers, and what went wrong. Output: where a call goes, what is added
on the way, whether it is tried again. A switch moves frames and decides nothing; a Service decides
and moves none.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from federation.contract.errors import FederationError
from federation.relay.h2.heads import AnswerHead, AnswerReader, RequestHead, RequestReader
from federation.relay.h2.rewriting import Rewriter
from federation.relay.h2.start import Start
from federation.relay.h2.status import Status, of_http
from federation.relay.h2.wheel import NEVER
from federation.relay.transport import Inbound

if TYPE_CHECKING:
    from federation.relay.h2.backend import Backend


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchLimits:
    """How much a switch grants. `window` bytes of each call may be on the way or held here, in each
    direction; `replay_bytes` of one call are kept for another attempt."""

    window: int = 1 << 20
    connection_window: int = 16 << 20
    frame: int = 1 << 16
    streams: int = 1000  # per client connection
    connections: int = 4  # per backend
    waiting: int = 1000  # calls that wait for a backend's connection
    replay_bytes: int = 8 << 20
    connect_s: float = 1.0
    idle_s: float = 300.0  # of connections on which nothing runs
    stall_s: float = 30.0  # how long a client may take nothing
    greeting_s: float = 10.0  # for a client to begin
    memory_bytes: int = 256 << 20  # of all calls, held here since they cannot be sent on
    high_water: int = 1 << 18  # bytes that a transport holds before its streams wait


class Kind(StrEnum):
    """How far an attempt got that failed."""

    UNREACHABLE = "unreachable"  # no connection: nothing was executed
    UNPROCESSED = "unprocessed"  # the far end says that it did not look at it
    REFUSED = "refused"  # the far end answered, and says that nothing was executed
    BROKEN = "broken"  # something may have been executed
    GIVEN_UP = "given up"  # we did not wait any longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An attempt that was not answered. `reason` is for machines, `why` for people."""

    kind: Kind
    why: str
    reason: str = ""
    status: Status = Status.UNAVAILABLE

    @property
    def nothing_done(self) -> bool:
        """Whether it is certain that nothing was executed."""
        return self.kind in (Kind.UNREACHABLE, Kind.UNPROCESSED, Kind.REFUSED)


@dataclass(slots=True)
class Route:
    """Where a call goes; `headers` are fields that are added, `request` and `answer` change what
    passes."""

    backend: "Backend"
    headers: bytes = b""
    request: Rewriter | None = None
    answer: Rewriter | None = None


@dataclass(slots=True, kw_only=True)
class Held:
    """The call has to wait, `at_most_s` seconds (within its deadline), and ends with what `late`
    returns then. When `then` is called, which the switch sets, the handler is asked again."""

    at_most_s: float
    late: Callable[[], FederationError]
    then: Callable[[], None] = lambda: None


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer of our own: one message, in protobuf."""

    message: bytes


@dataclass(slots=True, kw_only=True)
class Patience:
    """How long a call may take, in seconds. `total_s` is the client's own deadline, `first_s` ours
    for the first byte of the answer."""

    total_s: float | None = None
    first_s: float | None = None


class Handler(Protocol):
    """Decides for one call. `ended` is called once, as the last."""

    patience: Patience

    def at_once(self, body: bytes) -> Route | Held | None:
        """Return where a call goes that came whole, one plain message, and is like others before
        it, with its body counted as kept; None, and nothing done, if `route` has to be asked.
        Raises FederationError."""
        return None

    def answered(self, answer: AnswerHead) -> bytes | None:
        """A call that `at_once` sent was answered with OK and can be told so at once: `judge`,
        `answer` and `ended` in one. Return the header block to send on; None, and nothing done, if
        these have to be asked."""
        return None

    def route(self, start: Start) -> Route | Reply | Held | None:
        """Return where the call goes, or that it has to wait, None if more of it must be seen;
        raises FederationError.

        Asked with the head alone, then with each piece until it answers, and again after an attempt
        that failed.
        """
        ...

    def keep(self, size: int) -> bool:
        """Return whether so many more bytes may be kept for another attempt."""
        ...

    def judge(self, answer: AnswerHead, *, alone: bool) -> Failure | None:
        """Return why the head of an answer is none; `alone` = nothing follows it."""
        ...

    def answer(self, answer: AnswerHead, *, first: bool, last: bool) -> bytes:
        """Return the header block to send on in place of one that came."""
        ...

    def lost(self, failure: Failure, *, again: bool) -> None:
        """An attempt failed before anything of it was sent on; return to have it tried again.

        Raises FederationError, which the client gets, if it is not. `again` = it can be sent again.
        """
        ...

    def told(self, error: FederationError) -> bytes:
        """Return fields that go with an error of our own, besides its status."""
        ...

    def late_at_s(self) -> float:
        """Return when to ask `late`, if nothing of an answer came by then."""
        return NEVER

    def late(self, now_s: float, body: bytes) -> Route | float:
        """The answer to a call that was sent whole, once, is late. Return where it is sent, too, or
        when to ask again; raises FederationError."""
        return NEVER

    def sent_too(self) -> None:
        """It went where `late` said: two attempts are under way. `answered` returns None now."""
        return

    def second_takes_over(self, failure: Failure | None) -> None:
        """The second attempt is the only one from now on: the first one failed, or None = the
        second is answered, and the first was cancelled."""
        return

    def second_lost(self, failure: Failure) -> None:
        """The second attempt failed; the first one goes on."""
        return

    def ended(self, status: Status | None, sent: int) -> None:
        """The call is over; None = its client left. `sent` bytes of an answer went to it."""
        ...


class Service(Protocol):
    """Decides for all calls."""

    requests: RequestReader
    answers: AnswerReader

    def open(self, head: RequestHead, inbound: Inbound | None) -> Handler:
        """Return who decides for a call; whether it may come in, its `route` tells."""
        ...


@dataclass(slots=True)
class Counts:
    """What a switch counts for metrics."""

    calls: int = 0
    retries: int = 0
    cancelled: int = 0
    broken_clients: int = 0
    broken_upstreams: int = 0
    why: dict[str, int] = field(default_factory=dict)  # why connections were broken

    def broke(self, *, client: bool, why: str) -> None:
        """A connection had to be ended."""
        if client:
            self.broken_clients += 1
        else:
            self.broken_upstreams += 1
        if why in self.why or len(self.why) < 100:
            self.why[why] = self.why.get(why, 0) + 1


def none_in(head: AnswerHead, handler: Handler, *, alone: bool) -> Failure | None:
    """Return why the head of an answer is none."""
    if failure := handler.judge(head, alone=alone):
        return failure
    if head.http_status == b"200" or head.grpc_status:
        return None
    text = f"it answered with HTTP status {head.http_status.decode('ascii', 'replace')}"
    return Failure(kind=Kind.BROKEN, why=text, status=of_http(head.http_status))
