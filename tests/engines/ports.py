"""Blocks of free ports below the range that the kernel hands out to clients."""

import random
import socket

_FIRST, _LAST = 10_000, 31_000
_DICE = random.SystemRandom()  # the others are thrown alike in each test


def free_block(size: int) -> int:
    """Return the first of `size` neighbouring ports that are free on the loopback now."""
    for _ in range(200):
        first = _DICE.randrange(_FIRST, _LAST - size)
        if all(_is_free(port) for port in range(first, first + size)):
            return first
    raise RuntimeError(f"no {size} free ports side by side")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
