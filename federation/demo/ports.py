"""Ports that are free now, the well-known ones first.

Input: a wished port. Output: that port, or another one and a note that says so. A port is only
looked at, not kept: a process that loses the race says so in its log and ends.
"""

import socket
from collections.abc import Iterable

HOST = "127.0.0.1"
_SEARCH_FROM, _SEARCH_TO = 21000, 32000  # below the range that kernels hand out to clients


class PortTaker:
    """Hands out each port once. `notes` says which wishes were taken, in words."""

    def __init__(self, *, reserved: Iterable[int] = ()) -> None:
        self._given: set[int] = set(reserved)
        self.notes: list[str] = []

    def __repr__(self) -> str:
        return f"PortTaker(given={sorted(self._given)})"

    def take(self, wished: int, purpose: str) -> int:
        """Return `wished` if it is free, else the next free one, and note the change."""
        if self._usable(wished):
            self._given.add(wished)
            return wished
        port = self.block(1)
        self.notes.append(f"port {wished} is in use: the {purpose} listens on {port}")
        return port

    def block(self, size: int) -> int:
        """Return the first port of `size` free neighbours."""
        for first in range(_SEARCH_FROM, _SEARCH_TO - size, size):
            wanted = range(first, first + size)
            if all(self._usable(port) for port in wanted):
                self._given.update(wanted)
                return first
        raise OSError(f"no {size} free ports side by side between {_SEARCH_FROM} and {_SEARCH_TO}")

    def _usable(self, port: int) -> bool:
        return port not in self._given and is_free(port)


def is_free(port: int) -> bool:
    """Return whether a process could listen on `port` of the loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
