"""Who will not give which piece, until when, and for how long it has been refused.

Input: refusals, the time in monotonic seconds. Output: whom not to ask for a piece.
"""

from dataclasses import dataclass, field

FOR_GOOD = float("inf")


@dataclass(slots=True)
class Refusals:
    """Of each piece the members that will not give it."""

    _untils_s: dict[int, dict[str, float]] = field(default_factory=dict)
    _series_s: dict[int, tuple[float, float]] = field(default_factory=dict)  # began, is over

    def add(self, piece: int, name: str, now: float, for_s: float) -> None:
        """Do not ask a member for a piece for so long."""
        self._untils_s.setdefault(piece, {})[name] = now + for_s
        began_s, over_s = self._series_s.get(piece, (now, now))
        if now > over_s:
            began_s = now
        self._series_s[piece] = began_s, max(over_s, now + 2 * for_s)

    def drop(self, piece: int) -> None:
        """Forget a piece."""
        self._untils_s.pop(piece, None)
        self._series_s.pop(piece, None)

    def forget(self) -> None:
        """Forget all that are not for good: those who refused went by other owners."""
        for piece, names in list(self._untils_s.items()):
            kept = {name: until_s for name, until_s in names.items() if until_s == FOR_GOOD}
            if kept:
                self._untils_s[piece] = kept
            else:
                del self._untils_s[piece]

    @property
    def pieces(self) -> int:
        """Bitmap of the pieces that were refused at some time."""
        return sum(1 << piece for piece in self._untils_s)

    def names(self, piece: int, now: float) -> list[str]:
        """Return who will not give a piece now."""
        return [name for name, until_s in self._untils_s.get(piece, {}).items() if now < until_s]

    def since_s(self, piece: int, now: float) -> float:
        """Return since when a piece has been refused by one or the other."""
        return self._series_s.get(piece, (now, now))[0]

    def is_for_good(self, piece: int, name: str) -> bool:
        """Return whether a member is not asked for a piece any more."""
        return self._untils_s.get(piece, {}).get(name) == FOR_GOOD

    def by_name(self, now: float) -> dict[str, int]:
        """Return bitmaps of what each will not give now."""
        found: dict[str, int] = {}
        for piece, names in self._untils_s.items():
            for name, until_s in names.items():
                if now < until_s:
                    found[name] = found.get(name, 0) | 1 << piece
        return found
