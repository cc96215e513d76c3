"""Long work on a loop that has something else to do as well.

Input: work in slices (`federation.contract.slices`). Output: its result; between two slices the
loop does whatever is due. A slice should take a millisecond or two.
"""

import asyncio
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


async def unhurried(work: Generator[None, None, T]) -> T:
    """Do the work slice by slice and return its result; raises what it raises."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
        await asyncio.sleep(0)
