"""One run of chunks from one source, by one worker thread: read, decoded, verified, handed over.

Input: a run, a target, a lane of the throttle. Output: verified bytes, one call of `put` for each
chunk. What a cut leaves of a chunk is kept, and the next range begins where it ended.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from blake3 import blake3

from edge_agent.policy.ranges import Part
from edge_agent.sync.breath import SLICE_BYTES
from edge_agent.sync.cancel import Cancel
from edge_agent.sync.connection import Connection, Connections, Patience
from edge_agent.sync.http_head import Head, check_partial
from edge_agent.sync.lending import Lender
from edge_agent.sync.sites import Target
from edge_agent.sync.throttle import Held, Lane
from federation.chunking.encoding import decode
from federation.contract.errors import FederationError, Invalid, Unavailable
from federation.contract.locations import RAW
from federation.contract.types import Urgency
from federation.runtime.backoff import Backoff, Dice

PROGRESS_BYTES = 256 << 10  # so much, or a whole chunk, and earlier failures are forgotten
_DECODING = 4  # buffers of a chunk's length that `decode` has at once
_MAX_TOLD_BYTES = 4 << 10
_MAX_RETRY_AFTER_S = 10.0

Put = Callable[[int, memoryview], None]


class Refused(Exception):
    """A source answered with another status than 206."""

    def __init__(self, head: Head, told: str) -> None:
        super().__init__(f"it answered with {head.status}{told}")
        self.head = head
        self.reason = str(self)


class PutFailed(Exception):
    """Not the source's fault: what `put` raised is `error`."""

    def __init__(self, error: FederationError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class Account:
    """A meter: what one fetch has taken from its lane."""

    lane: Lane
    urgency: Urgency
    cancel: Cancel
    wire_bytes: int = 0

    def permit(self) -> int:
        """See Lane.permit."""
        return self.lane.permit(self.urgency, self.cancel)

    def pay(self, count: int) -> None:
        """See Lane.pay."""
        self.wire_bytes += count
        self.lane.pay(self.urgency, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all fetches from one kind of source share. After an answer with one of `passing`
    statuses the same source is asked again; `tries` bounds failures without progress."""

    connections: Connections
    patience: Patience
    tries: int
    dice: Dice
    passing: tuple[int, ...] = ()
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, cap_s=5.0))
    lender: Lender = field(default_factory=Lender)


class Fetch:
    """Brings one run. `parts` lie side by side; `base_of` gives the bytes of a chunk by digest."""

    def __init__(
        self,
        target: Target,
        parts: tuple[Part, ...],
        put: Put,
        account: Account,
        base_of: Callable[[bytes], bytes | None] = lambda _digest: None,
    ) -> None:
        self.target, self._parts, self._put = target, parts, put
        self.account = account
        self._base_of = base_of
        self._next = 0  # number of whole parts so far
        self._filled = 0  # bytes of the part that comes next
        self._failures = 0
        self._buffer = memoryview(b"")
        self._digest = blake3()
        self._hashed = 0  # of these bytes: no long piece of work is left for the end

    def __repr__(self) -> str:
        return f"Fetch({self.target}, {self._next} of {len(self._parts)} chunks)"

    @property
    def rest(self) -> tuple[Part, ...]:
        """The parts that were not handed over."""
        return self._parts[self._next :]

    @property
    def begun(self) -> bool:
        """Whether at least one part was handed over."""
        return self._next > 0

    def run(self, means: Means) -> None:
        """Bring everything. To be called once, in a worker thread.

        Raises Unavailable if the source fails too often, Invalid if it lies, each with its name;
        Refused, PutFailed, Cancelled.
        """
        # Before a stream is waited for: who has a stream never waits for memory.
        size, who = max(map(_room, self._parts)), (self.account.lane, self.account.urgency)
        try:
            with means.lender.lent(size, who, self.account.cancel) as self._buffer:
                while self._next < len(self._parts):
                    self._try(means)
        except FederationError as error:
            raise type(error)(
                f"{self.target}: {error.message}", hint=error.hint, reason=error.reason
            ) from None
        finally:
            self._buffer = memoryview(b"")

    def _try(self, means: Means) -> None:
        position = (self._next, self._filled)
        pause_s = 0.0
        try:
            self._bring_range(means)
        except Held:
            return  # the range goes on, on another connection, when it is our turn again
        except Unavailable as error:
            failure: Exception = error
        except Refused as refused:
            if refused.head.status not in means.passing:
                raise
            pause_s = min(refused.head.retry_after_s, _MAX_RETRY_AFTER_S)
            failure = refused
        else:
            return
        moved = self._next > position[0] or self._filled - position[1] >= PROGRESS_BYTES
        self._failures = 1 if moved else self._failures + 1
        if self._failures >= means.tries:
            raise failure
        delay_s = means.backoff.delay_s(self._failures, means.dice)
        self.account.cancel.sleep(max(pause_s, delay_s))

    def _bring_range(self, means: Means) -> None:
        account = self.account
        with account.lane.stream(account.urgency, account.cancel) as shape:
            first = self._parts[self._next].place.offset + self._filled
            count = min(self._parts[-1].end - first, shape.range_bytes)
            site, buffer = self.target.site, shape.receive_buffer
            with means.connections.use(site, means.patience, buffer, account.cancel) as connection:
                head = connection.get(self.target, (first, count), account)
                if head.status in (200, 206) or head.status // 100 == 3:
                    check_partial(head, first, count)
                    self._read(connection, count)
                    return
                refused = Refused(head, _told(connection, head, account))
        raise refused  # not before: the connection is in order

    def _read(self, connection: Connection, count: int) -> None:
        while count:
            part = self._parts[self._next]
            room = min(count, part.place.stored - self._filled)
            got = connection.read_into(
                self._buffer[self._filled : self._filled + room], self.account
            )
            self._filled += got
            count -= got
            if self._filled - self._hashed >= SLICE_BYTES:
                self._hash()
            if self._filled == part.place.stored:
                self._finish(part)

    def _finish(self, part: Part) -> None:
        """Hand over the part in the buffer if it is what the manifest says; raises Invalid."""
        self.account.cancel.check()
        self._hash()
        digest = self._digest.digest()
        self._filled, self._hashed, self._digest = 0, 0, blake3()  # wrong or not, it is over
        data = self._buffer[: part.place.stored]
        if part.place.code != RAW:
            data = memoryview(self._decoded(part, data))
            digest = blake3(data).digest()
        if digest != part.digest:
            raise Invalid(f"chunk {part.number} that it sent is not the one in the manifest.")
        try:
            self._put(part.number, data)
        except FederationError as error:
            raise PutFailed(error) from None
        self._next += 1

    def _hash(self) -> None:
        self._digest.update(self._buffer[self._hashed : self._filled])
        self._hashed = self._filled

    def _decoded(self, part: Part, stored: memoryview) -> bytes:
        base = b""
        if part.base:
            found = self._base_of(part.base)
            if found is None:
                raise Invalid(
                    f"chunk {part.number} is stored as a difference to a chunk that is not here."
                )
            base = found
        return decode(bytes(stored), part.place.code, part.length, base)


def _told(connection: Connection, head: Head, account: Account) -> str:
    """Return the beginning of a short body, as a part of a sentence."""
    if not head.length or head.length > _MAX_TOLD_BYTES:
        return ""
    data = bytearray(head.length)
    view, filled = memoryview(data), 0
    while filled < len(data):
        filled += connection.read_into(view[filled:], account)
    text = " ".join(data.decode("utf-8", "replace").split())
    return f": {text[:200]}" if text.isprintable() else ""


def _room(part: Part) -> int:
    """Return how many bytes of memory it takes to bring a chunk."""
    place = part.place
    return place.stored if place.code == RAW else place.stored + _DECODING * part.length
