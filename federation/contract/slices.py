"""Long work cut into slices, so that whoever serves requests meanwhile can serve them between two.

Input: a generator that yields after each slice, and returns its result. Output: the result.
`federation.runtime.slices` lets a loop go on between two slices.
"""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Slices = Generator[None, None, T]


def finish(work: Generator[None, None, T]) -> T:
    """Do all of it at once, and return the result; raises what the work raises."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
