"""Whose call it is: the key in a call's metadata.

Input: the head of a call, the keys in the routing table. Output: a Caller; raises Unauthenticated.
The rules are those of the HTTP side (`router.request.door`). A verdict is remembered for a second
at most, and never beyond the table that it was made from.
"""

from multidict import CIMultiDict

from federation.relay.h2.heads import RequestHead
from router.policy.access import EVERYONE, AccessTable, Caller, missing_key
from router.request.door import KEY_HEADER, is_ours, shown_key
from router.state import RouterState

NOTED = (b"authorization", KEY_HEADER.encode())
_REMEMBERED_S = 1.0
_MOST_REMEMBERED = 4096

_Said = tuple[tuple[bytes, ...], tuple[bytes, ...]]


class Callers:
    """Tells callers by their keys."""

    def __init__(self, state: RouterState) -> None:
        self._state = state
        self._access: AccessTable | None = None
        self._known: dict[_Said, tuple[float, Caller]] = {}

    def __repr__(self) -> str:
        return f"Callers({len(self._known)} seen lately)"

    def of(self, head: RequestHead) -> Caller:
        """Return whose call this is; raises Unauthenticated."""
        state = self._state
        access = state.table.access if state.table is not None else None
        if access is not self._access or len(self._known) >= _MOST_REMEMBERED:
            self._access, self._known = access, {}
        said: _Said = (head.noted.get(NOTED[0], ()), head.noted.get(NOTED[1], ()))
        now_s = state.clock.monotonic_s()
        seen_s, caller = self._known.get(said, (0.0, None))
        if caller is None or now_s - seen_s > _REMEMBERED_S:
            caller = self._judge(said)
            self._known[said] = (now_s, caller)
        return caller

    def _judge(self, said: _Said) -> Caller:
        headers = CIMultiDict(
            (name.decode(), value.decode("latin-1"))
            for name, values in zip(NOTED, said, strict=True)
            for value in values
        )
        text = shown_key(headers)
        if self._state.allow_anonymous and not is_ours(text):
            return EVERYONE
        access = self._state.require_table().access
        if text is None:
            raise missing_key(access)
        return access.authenticate(text, self._state.clock.utc())
