"""What is known of requests whose heads are alike, so that the next one need not be judged anew.

Input: the head of a request, judged by `door`. Output: a Way: whose requests they are, what of the
head goes on, and for each cluster To: where they are sent, and what their answers begin with.
"""

from typing import Any

from federation.contract.errors import FederationError
from federation.contract.types import Location
from federation.relay.forward import Channel, ForwardError
from federation.relay.headers import OUTCOME_HEADER, REFUSED_HEADER, lines, response_headers
from federation.relay.http1.heads import RequestHead, ResponseHead
from federation.relay.http1.messages import FIRST
from federation.relay.http1.server import ServerConnection
from federation.relay.outgoing import place_of
from federation.relay.paths import InferenceVerb, gateway_path
from router.metrics.requests import Tally
from router.policy import residency
from router.policy.hedging import Pace
from router.policy.pick import shortlist
from router.policy.quota import Account
from router.policy.shortlist import Option, Shortlist
from router.policy.table import Resolved
from router.records import Who
from router.request import responses
from router.request.call import UNUSUAL
from router.request.door import Door, Known
from router.request.outgoing import passed_fields
from router.request.shared import Shared
from router.request.steps import Steps, who_asks

_OURS = (*responses.OWN_HEADERS, "x-request-id")


class To:
    """One cluster as requests of one way get there, and what their answers tell of it. `waiting`
    are the exchanges there that have no answer yet."""

    __slots__ = (
        *("_length", "_length_line", "channel", "pace", "size", "start", "tally", "told"),
        *("upto_id", "waiting"),
    )

    def __init__(self, channel: Channel, waiting: set[Any], start: bytes, told: bytes) -> None:
        self.channel = channel
        self.waiting = waiting
        self.start = start
        self.told = told
        self.tally: Tally | None = None  # as long as the table is the same
        self.pace: Pace | None = None  # when answers are late; None = they are not hedged
        self.size = -1  # of the last body
        self.upto_id = b""  # how a request with such a body begins
        self._length, self._length_line = -1, b""  # of the last answer

    def __repr__(self) -> str:
        return f"To({self.start[:80]!r})"

    def length_line(self, length: int) -> bytes:
        """Return the header line that tells an answer's length: often that of the last one."""
        if length != self._length:
            self._length, self._length_line = length, b"Content-Length: %d\r\n" % length
        return self._length_line


class Way:
    """Requests with one head: as long as `known` holds, the next one is let in as the last one
    was."""

    __slots__ = (
        *("account", "client", "known", "origin", "passed", "resolved", "shorts", "table", "tos"),
        *("traced", "until_s", "who"),
    )

    def __init__(
        self, known: Known, head: RequestHead, origin: Location | None, who: Who, account: Account
    ) -> None:
        self.known = known
        self.table = known.table
        self.until_s = known.until_s
        self.account = account
        self.who = who
        self.client: Location | None = None  # its place, where nearer routers are told
        self.origin = origin
        self.passed, trace = passed_fields(head)
        self.traced = bool(trace)
        self.resolved: Resolved | None = None  # once it was found; with the split, if it has one
        self.shorts: dict[int, Shortlist] = {}  # by version
        self.tos: dict[Option, To] = {}

    def __repr__(self) -> str:
        return f"Way({self.known.visit.target})"

    def upto_id(self, to: To, size: int) -> bytes:
        """Return how a request with a body of `size` bytes begins, as far as its id."""
        length = b"Content-Length: %d\r\n" % size
        to.size, to.upto_id = size, b"".join((to.start, length, self.passed, b"x-request-id: "))
        return to.upto_id


class Ways:
    """Finds out what a Way and its To know."""

    def __init__(self, shared: Shared, *, steps: Steps, door: Door) -> None:
        self._state = shared.state
        self._upstreams = shared.upstreams
        self._quotas = shared.quotas
        self._steps = steps
        self._door = door

    def __repr__(self) -> str:
        return f"Ways({self._door})"

    def resolve(self, way: Way) -> Resolved | None:
        """Find the model; None if the usual way has to."""
        visit = way.known.visit
        target = visit.target
        try:
            resolved = self._steps.resolve(visit.caller, target.model, target.version)
        except FederationError:
            return None
        way.resolved = resolved
        return resolved

    def judge(self, connection: ServerConnection, head: RequestHead, now_s: float) -> "Way | bool":
        """Judge a head; False if requests like it do not go this way."""
        plain = head.minor and head.persistent and not (head.chunked or head.expects)
        if not plain or any(name in head.headers for name in UNUSUAL):
            return False
        try:
            known = self._door.judge(head)
        except FederationError:
            return False
        if known.visit.target.verb is not InferenceVerb.INFER:
            return False
        remote, headers, steps = connection.remote, head.headers, self._steps
        caller = known.visit.caller
        account = self._quotas.account(caller.tenant, now_s)
        who = who_asks(remote, headers, caller)
        way = Way(known, head, steps.origin(remote, headers), who, account)
        way.client = steps.steering.client(remote, headers)
        return way

    def to(self, way: Way, resolved: Resolved, chosen: Option) -> To | None:
        """Work out how requests get to a cluster; None if they cannot."""
        caller, model, version = way.known.visit.caller, resolved.route.name, resolved.version
        residency.assure(resolved.route, caller.regions, chosen)
        upstreams = self._upstreams
        base = upstreams.base(chosen.cluster, chosen.url)
        try:
            place = place_of(base + gateway_path(InferenceVerb.INFER, model, version))
            channel = upstreams.channel(chosen.cluster, base)
        except ForwardError:
            return None
        start = f"POST {place.path} HTTP/1.1\r\nHost: {place.authority}\r\n"
        told = responses.way_fields(chosen, resolved, 1)
        told += self._steps.steering.line(way.client, resolved, caller)
        waiting = upstreams.waiting(chosen.cluster)
        found = way.tos[chosen] = To(channel, waiting, start.encode(), told)
        found.pace = self._state.hedging.pace(resolved)
        return found

    def short(self, way: Way, resolved: Resolved, now_s: float) -> Shortlist:
        """Return the clusters for requests of this way."""
        state, caller = self._state, way.known.visit.caller
        question = self._steps.question(resolved, caller, way.origin, now_s)
        found = shortlist(state.require_table(), state.signals, question)
        way.shorts[resolved.version] = found
        return found


def beginning(head: ResponseHead) -> bytes | bool:
    """Return how answers with such a head begin for the client; False if `proxy` has to look."""
    limited = any(name.lower().startswith("x-ratelimit-") for name in head.headers)
    plain = head.persistent and not head.chunked and head.length >= 0
    if not plain or limited or not 200 <= head.status < 204:
        return False
    if REFUSED_HEADER in head.headers or OUTCOME_HEADER in head.headers:
        return False
    passed = response_headers(head.headers, cut=_OURS)
    return f"{FIRST[head.status]}\r\n".encode() + lines(passed)
