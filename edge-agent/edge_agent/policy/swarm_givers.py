"""Which of the pieces that others hold to take next, and from whom.

Input: who holds what, who can be asked now, how many fetches each has already, chance. Output: a
member and a piece: one that is asked least and not slow, and of what it has the piece that the
fewest hold. The choice of the member comes first, so that all are asked alike.
"""

from collections.abc import Mapping, Sequence, Set

from edge_agent.policy.swarm_members import Members
from edge_agent.policy.swarm_terms import Shuffler

_SAMPLE = 16  # peers: of hundreds not all are looked at
_SLOWER = 3.0  # times the median: such a peer is left alone while others have the piece

_Load = tuple[int, str, int]  # fetches from a peer now, its name, what it would give


class Givers:
    """The choice among those that hold pieces; `count` are all pieces of the package."""

    def __init__(self, members: Members, count: int, dice: Shuffler) -> None:
        self._members, self._count, self._dice = members, count, dice
        self._pace_s: dict[str, float] = {}  # how long a piece from a peer takes, lately

    def __repr__(self) -> str:
        return f"Givers({len(self._pace_s)} known)"

    def took(self, name: str, seconds: float) -> None:
        """Note how long a piece from a member took."""
        self._pace_s[name] = (self._pace_s.get(name, seconds) + seconds) / 2

    def one(self, pieces: int) -> int:
        """Return one of the pieces in a bitmap, by chance."""
        start = self._dice.choice(range(self._count))
        if above := pieces >> start:
            return start + (above & -above).bit_length() - 1
        return (pieces & -pieces).bit_length() - 1

    def choose(
        self, free: Set[str], pieces: int, loads: Mapping[str, int], refused: Mapping[str, int]
    ) -> tuple[str, int] | None:
        """Return whom to ask for which of the pieces in a bitmap; None if nobody has any.

        `refused` are bitmaps of what members will not give.
        """
        if not free or not pieces & self._members.held:
            return None
        shunned = self._shunned()
        good = self._members.held_by(self._members.usable - shunned) if shunned else 0
        for names in (self._some(free), free):
            found: list[_Load] = []
            for name, bits in self._members.having(names, pieces):
                bits &= ~(refused.get(name, 0) | (good if name in shunned else 0))
                if bits:
                    found.append((loads.get(name, 0), name, bits))
            if found:
                least = min(load for load, _, _ in found)
                name, bits = self._dice.choice([(n, b) for load, n, b in found if load == least])
                return name, self.one(self._members.counts.rarest(bits))
        return None

    def lightest(
        self, names: Sequence[str], free: Set[str], loads: Mapping[str, int]
    ) -> str | None:
        """Return one of these that sends us least now; the slow ones only if there is no other."""
        shunned = self._shunned()
        willing = [name for name in names if name not in shunned] or names
        asked = [name for name in willing if name in free]
        if not asked:
            return None
        least = min(loads.get(name, 0) for name in asked)
        return self._dice.choice([name for name in asked if loads.get(name, 0) == least])

    def _shunned(self) -> Set[str]:
        """Return who is asked only for what nobody else has."""
        if len(self._pace_s) < 2:
            return self._members.slow
        bearable_s = _SLOWER * sorted(self._pace_s.values())[len(self._pace_s) // 2]
        return self._members.slow.union(n for n, s in self._pace_s.items() if s > bearable_s)

    def _some(self, free: Set[str]) -> Set[str]:
        if len(free) <= _SAMPLE:
            return free
        names = sorted(free)
        return {self._dice.choice(names) for _ in range(_SAMPLE)}
