"""What is known of calls that are alike: the same headers that matter, the same model named.

Input: calls that were let in and sent on. Output: for the next one like them, all that need not be
judged again. It holds for one routing table, and for a second at most, as what `callers` remembers:
keys end. Where nothing is known, or a message begins oddly, a call is looked at in full.
"""

from federation.contract.types import Location
from federation.relay.h2.blocks import literal
from federation.relay.h2.heads import RequestHead
from federation.relay.h2.message import Named
from federation.relay.h2.service import Patience
from federation.relay.headers import MODEL_HEADER, VERSION_HEADER
from router.grpc.methods import Rpc
from router.policy.access import Caller
from router.policy.decision import Question
from router.policy.pick import shortlist
from router.policy.shortlist import Shortlist
from router.policy.table import Resolved, RoutingTable
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


class Way:
    """Calls that are alike."""

    __slots__ = (
        "_shorts",
        "caller",
        "named",
        "origin",
        "patience",
        "rpc",
        "until_s",
        "version",
    )

    def __init__(
        self,
        *,
        rpc: Rpc,
        caller: Caller,
        named: Named,
        version: int | None,
        origin: Location | None,
        patience: Patience,
    ) -> None:
        self.rpc = rpc
        self.caller = caller
        self.named = named
        self.version = version
        self.origin = origin
        self.patience = patience  # of a call without a grpc-timeout
        self.until_s = 0.0
        self._shorts: dict[int, tuple[Shortlist, bytes]] = {}  # by version

    def __repr__(self) -> str:
        return f"Way({self.rpc.name}, {self.named.name}, {self.caller})"

    def short(
        self, resolved: Resolved, state: RouterState, now_s: float
    ) -> tuple[Shortlist, bytes]:
        """Return the clusters to choose from, and the fields that name the version to them."""
        found = self._shorts.get(resolved.version)
        if found is None:
            question = Question(
                resolved=resolved, now_s=now_s, regions=self.caller.regions, origin=self.origin
            )
            short = shortlist(state.require_table(), state.signals, question)
            found = self._shorts[resolved.version] = short, ours(resolved)
        return found


class Ways:
    """The ways that calls took lately."""

    def __init__(self, state: RouterState) -> None:
        self._state = state
        self._table: RoutingTable | None = None
        self._ways: dict[Key, Way] = {}

    def __repr__(self) -> str:
        return f"Ways({len(self._ways)})"

    def of(self, key: Key, now_s: float) -> Way | None:
        """Return what is known of calls like this one."""
        if self._table is not self._state.table:
            self._table, self._ways = self._state.table, {}
            return None
        way = self._ways.get(key)
        return way if way is not None and now_s < way.until_s else None

    def keep(self, key: Key, way: Way, now_s: float) -> None:
        """Take note of a way that a call has taken, by the table of now."""
        if len(self._ways) >= _MOST or self._table is not self._state.table:
            self._table, self._ways = self._state.table, {}
        way.until_s = now_s + _HOLDS_S
        self._ways[key] = way


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
