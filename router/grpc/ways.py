"""What is known of calls that are alike: the same headers that matter, the same model named.

Input: calls that were let in and sent on. Output: for the next one like them, all that need not be
judged again. It holds for one routing table, and for a second at most, as what `callers` remembers:
keys end. Where nothing is known, or a message begins oddly, a call is looked at in full.
"""

from federation.contract.types import Location
from federation.relay.h2.backend import Backend
from federation.relay.h2.blocks import literal
from federation.relay.h2.heads import RequestHead
from federation.relay.h2.message import PEEK_BYTES, PREFIX_BYTES, Named
from federation.relay.h2.service import Patience
from federation.relay.headers import MODEL_HEADER, VERSION_HEADER
from router.grpc.methods import Rpc
from router.metrics.requests import Tally
from router.policy.access import Caller
from router.policy.decision import Question
from router.policy.pick import shortlist
from router.policy.quota import Account
from router.policy.shortlist import Option, Shortlist
from router.policy.table import Resolved, RoutingTable
from router.records import Who
from router.state import RouterState

_HOLDS_S = 1.0
_MOST = 4096
_NAME, _VERSION = 0x0A, 0x12  # fields 1 and 2 of a message, length-delimited
_MODEL_KEY, _VERSION_KEY = MODEL_HEADER.encode(), VERSION_HEADER.encode()

Key = tuple[int, bytes, str]


def ours(resolved: Resolved) -> bytes:
    """Return the fields that tell a gateway what was resolved."""
    named = literal(_MODEL_KEY, resolved.route.name.encode())
    return named + literal(_VERSION_KEY, b"%d" % resolved.version)


class To:
    """One cluster as calls of one way get there. `told` is what their answers tell of the way,
    besides the request's id; `tally`, where they are counted as long as `table` is the router's;
    `who`, whom their records name."""

    __slots__ = ("backend", "table", "tally", "told", "who")

    def __init__(
        self, backend: Backend, *, told: bytes, table: RoutingTable | None, tally: Tally, who: Who
    ) -> None:
        self.backend = backend
        self.told = told
        self.table = table
        self.tally = tally
        self.who = who

    def __repr__(self) -> str:
        return f"To({self.backend})"


class Way:
    """Calls that are alike. `begins` is how their messages begin; `never_twice`, that their client
    asked for that. `found` is what the first call that goes this way finds out."""

    found: tuple[Resolved, Shortlist] | None = None
    ours = b""  # the fields that tell a gateway what was resolved

    def __init__(
        self, *, rpc: Rpc, caller: Caller, named: Named, patience: Patience, account: Account
    ) -> None:
        self.rpc = rpc
        self.caller = caller
        self.named = named
        self.patience = patience  # of a call without a grpc-timeout
        self.account = account  # of the caller's tenant
        self.version: int | None = None
        self.origin: Location | None = None
        self.never_twice = False
        self.until_s = 0.0
        self.begins = b""
        self.tos: dict[Option, To] = {}

    def __repr__(self) -> str:
        return f"Way({self.rpc.name}, {self.named.name}, {self.caller})"

    def find(self, resolved: Resolved, state: RouterState, now_s: float) -> None:
        """Take note of the version that answers, and of the clusters to choose from."""
        question = Question(
            resolved=resolved, now_s=now_s, regions=self.caller.regions, origin=self.origin
        )
        short = shortlist(state.require_table(), state.signals, question)
        self.found, self.ours = (resolved, short), ours(resolved)


class Ways:
    """The ways that calls took lately."""

    def __init__(self, state: RouterState) -> None:
        self._state = state
        self._table: RoutingTable | None = None
        self._ways: dict[Key, Way] = {}
        self._last: dict[tuple[int, str], Way] = {}  # by what heads say and who sends them

    def __repr__(self) -> str:
        return f"Ways({len(self._ways)})"

    def of(self, head: RequestHead, body: bytes, remote: str, now_s: float) -> Way | None:
        """Return what is known of calls like this one, which came whole; `body` with the prefix of
        its only message."""
        if self._table is not self._state.table:
            self._table, self._ways, self._last = self._state.table, {}, {}
            return None
        last = head.kind, remote  # kind 0 is never kept
        way = self._last.get(last)
        if way is None or not _begins(body, way.begins):
            key = key_of(head, body[PREFIX_BYTES : PREFIX_BYTES + PEEK_BYTES], remote)
            way = None if key is None else self._ways.get(key)
            if way is None:
                return None
            self._last[last] = way
        return way if now_s < way.until_s else None

    def known(self, key: Key, now_s: float) -> Way | None:
        """Return the same for a call that came in pieces."""
        way = self._ways.get(key) if self._table is self._state.table else None
        return way if way is not None and now_s < way.until_s else None

    def keep(self, key: Key, way: Way, now_s: float) -> None:
        """Take note of a way that a call has taken, by the table of now."""
        if len(self._ways) >= _MOST or self._table is not self._state.table:
            self._table, self._ways, self._last = self._state.table, {}, {}
        way.until_s, way.begins = now_s + _HOLDS_S, key[1]
        self._ways[key] = way
        self._last[key[0], key[2]] = way


def _begins(body: bytes, begins: bytes) -> bool:
    """Whether the message in a body begins so, and does not name a model once more."""
    end = PREFIX_BYTES + len(begins)
    return len(body) > end and body.startswith(begins, PREFIX_BYTES) and body[end] > _VERSION


def key_of(head: RequestHead, message: bytes, remote: str) -> Key | None:
    """Return what makes calls alike; None for a message that does not begin as all clients write
    it: one name of less than 128 bytes, a version or none, and something else behind them."""
    end, size = 0, len(message)
    if not head.kind or size < 3 or message[0] != _NAME:
        return None
    end = 2 + message[1]
    if message[1] > 0x7F or end + 1 >= size:
        return None
    if message[end] == _VERSION:
        if message[end + 1] > 0x7F:
            return None
        end += 2 + message[end + 1]
        if end >= size:
            return None
    if message[end] <= _VERSION:
        return None  # the name or the version once more
    return head.kind, message[:end], remote
