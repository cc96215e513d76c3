"""How many requests are in this router at once, and how much memory their bodies hold.

Input: `proxy` asks before it reads a body, and for each piece of it. Output: a place, or Exhausted;
leaving the context is the one release path, of the place and of what was kept for it.
"""

from dataclasses import dataclass

from federation.contract.errors import Exhausted


@dataclass(slots=True)
class Place:
    """One request's place, and how many bytes of its body are kept."""

    house: "Admission"
    kept_bytes: int = 0

    def __enter__(self) -> "Place":
        self.house.in_flight += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the place back, once, with what was kept for it."""
        self.house.in_flight -= 1
        self.house.kept_bytes -= self.kept_bytes

    def keep(self, size: int) -> bool:
        """Count `size` more bytes as kept; False, and nothing counted, if there is no room."""
        if self.house.kept_bytes + size > self.house.memory_bytes:
            return False
        self.house.kept_bytes += size
        self.kept_bytes += size
        return True


class Admission:
    """Two counters with ceilings: requests, and bytes of bodies kept for another try."""

    def __init__(self, max_concurrent: int, memory_bytes: int = 512 * 1024 * 1024) -> None:
        self.max_concurrent = max_concurrent
        self.memory_bytes = memory_bytes
        self.in_flight = 0
        self.kept_bytes = 0

    def __repr__(self) -> str:
        return f"Admission({self.in_flight}/{self.max_concurrent})"

    def place(self) -> Place:
        """Return a place to hold, as a context; raises Exhausted when all are taken."""
        if self.in_flight >= self.max_concurrent:
            raise Exhausted(
                f"This router already works on {self.in_flight} requests.",
                hint="Try again in a second.",
            )
        return Place(self)

    def enter(self) -> Place:
        """Take a place; `Place.leave` gives it back. Raises Exhausted when all are taken."""
        return self.place().__enter__()

    def take(self, size: int) -> bool:
        """Take a place and keep a body of so many bytes; False, and nothing taken, if there is no
        room. `give_back` ends it, or leaving a `Place(self, size)`."""
        kept = self.kept_bytes + size
        if kept > self.memory_bytes or self.in_flight >= self.max_concurrent:
            return False
        self.in_flight += 1
        self.kept_bytes = kept
        return True

    def give_back(self, size: int) -> None:
        """Give back what `take` took, once."""
        self.in_flight -= 1
        self.kept_bytes -= size
