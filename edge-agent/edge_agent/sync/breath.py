"""Short rests between slices of work, so that a transfer never holds a core for long.

Input: whether inference goes first now, work of any length. Output: slices of it, with rests in
between. A thread that hashes and writes 4 MiB at one go takes milliseconds, and whoever wakes up on
its core meanwhile waits for them: a request crosses some ten processes and threads on its way.
"""

import time
from collections.abc import Iterator

SLICE_BYTES = 256 << 10  # about 0.1 ms of hashing, or of writing into the page cache
REST_S = 0.001


class Breath:
    """Shared by all threads that work for transfers; `needed` may be set by any of them."""

    def __init__(self) -> None:
        self.needed = False

    def __repr__(self) -> str:
        return f"Breath({'needed' if self.needed else 'not needed'})"

    def take(self) -> None:
        """Rest, if inference goes first. In a worker thread."""
        if self.needed:
            time.sleep(REST_S)

    def slices(self, data: memoryview) -> Iterator[memoryview]:
        """Yield all of `data`, in order, SLICE_BYTES at a time, with a rest before each but the
        first."""
        for start in range(0, len(data), SLICE_BYTES):
            if start:
                self.take()
            yield data[start : start + SLICE_BYTES]
