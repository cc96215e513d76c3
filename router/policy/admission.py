"""How many requests are in this router at once.

Input: `proxy` asks before it reads a body. Output: a place, or Exhausted; leaving the context is
the one release path.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from federation.contract.errors import Exhausted


class Admission:
    """A counter with a ceiling."""

    def __init__(self, max_concurrent: int) -> None:
        self.max_concurrent = max_concurrent
        self.in_flight = 0

    def __repr__(self) -> str:
        return f"Admission({self.in_flight}/{self.max_concurrent})"

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place; raises Exhausted when all are taken."""
        if self.in_flight >= self.max_concurrent:
            raise Exhausted(
                f"This router already works on {self.in_flight} requests.",
                hint="Try again in a second.",
            )
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
