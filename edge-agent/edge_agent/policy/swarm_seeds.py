"""The pieces that only this cluster has for its region, and what follows from them.

Input: what came from the origin, what others took or hold, the time in monotonic seconds. Output:
how many more pieces to get from the origin, and which to give away first.

A cluster shows that it can give before it gets more: what nobody takes from it is of no use to the
others, and a piece at the end of a slow uplink holds all of them up.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from edge_agent.policy.swarm_members import Members
from edge_agent.policy.swarm_terms import SwarmLimits

_WAITING = 8  # pieces, at most, that no other has yet; fewer before some were given away


@dataclass(slots=True)
class Seeds:
    """`_since_s` of each piece that no other has: when it came, or was first asked for."""

    limits: SwarmLimits
    taken_s: float = float("-inf")  # when a piece came from another
    _since_s: dict[int, float] = field(default_factory=dict)
    _asked: set[int] = field(default_factory=set)
    _spread: int = 0

    def got(self, piece: int, now: float) -> None:
        """Note that a piece came from the origin."""
        self._since_s[piece] = now

    def spread(self, piece: int) -> None:
        """Note that another has a piece, too."""
        if self._since_s.pop(piece, None) is not None:
            self._spread += 1
            self._asked.discard(piece)

    def update(self, members: Members, now: float) -> None:
        """Forget what others have as well, and what nobody wants."""
        for piece in [*self._done(members, now)]:
            self.spread(piece)

    def _done(self, members: Members, now: float) -> Iterator[int]:
        for piece, since_s in self._since_s.items():
            # A single other one may be slow at taking; not if it gave something meanwhile.
            many = len(members.usable) > 1 or self.taken_s > since_s
            asked = piece in self._asked and many
            patience_s = self.limits.disgrace_s if asked else self.limits.hedge_s
            if members.is_held(piece) or now - since_s > patience_s:
                yield piece

    def room(self, most: int) -> int:
        """Return how many pieces may be on their way at once, if else it would be `most`."""
        waiting = len(self._since_s)
        return min(most, min(1 + self._spread, _WAITING) - waiting)

    def gives(self, piece: int, now: float, *, too_slow: bool) -> bool:
        """Return whether to give a piece now: until it is known that this cluster gives fast, what
        nobody else has goes first."""
        if piece in self._since_s:
            if piece not in self._asked:
                self._asked.add(piece)
                self._since_s[piece] = now
            return True
        return not self._asked or (self._spread > 0 and not too_slow)
