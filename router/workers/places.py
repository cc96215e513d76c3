"""Where the workers of one router listen: one address, which all of them share.

Input: `HOST:PORT`. Output: sockets that are bound to it, one for each worker, among which the
system spreads connections (SO_REUSEPORT). Where it cannot do that, one socket which they inherit.
For agents, each worker has a port of its own.
"""

import socket
from dataclasses import dataclass

from federation.contract.errors import FederationError
from federation.relay.server import BACKLOG, parse_address, reserve
from router.parts import join
from router.settings import Settings, reverse_address

CAN_SHARE = hasattr(socket, "SO_REUSEPORT")


@dataclass(frozen=True, slots=True)
class Place:
    """An address that this process holds. `inherited` is a listening socket, if workers need it."""

    address: tuple[str, int]
    held: socket.socket
    inherited: socket.socket | None = None

    def close(self) -> None:
        """Give the address free."""
        self.held.close()


def hold(address: str, *, sharing: bool = CAN_SHARE) -> Place:
    """Hold `HOST:PORT` (port 0: any) for workers; raises as `federation.relay.server.listen`.

    An address that another process listens on is refused, also if that one would share it.
    """
    first = reserve(address)  # does not share
    bound: tuple[str, int] = first.getsockname()[:2]
    if not sharing:
        first.listen(BACKLOG)
        first.set_inheritable(True)
        return Place(bound, first, first)
    first.close()
    return Place(bound, shared(bound))


def shared(address: tuple[str, int]) -> socket.socket:
    """Return a socket bound to an address that `hold` holds; raises OSError."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


class Doors:
    """Where agents dial the workers of a router: each has a port of its own, one after the other,
    since an agent must have connections to all of them."""

    def __init__(self, settings: Settings, workers: int) -> None:
        """Hold the ports from that of `--reverse-listen` on; raises as `hold`."""
        self.sockets: list[socket.socket] = []
        self.addresses = ""  # as they are announced
        if not settings.reverse_listen or settings.table:
            return
        host, first = parse_address(settings.reverse_listen)
        told: list[str] = []
        try:
            for number in range(workers):
                held = reserve(join((host, first + number if first else 0)))
                self.sockets.append(held)
                told.append(_announced(settings, number, held.getsockname()))
        except FederationError:
            self.close()
            raise
        self.addresses = ",".join(told)

    def __repr__(self) -> str:
        return f"Doors({self.addresses})"

    def close(self) -> None:
        """Give the ports free."""
        for one in self.sockets:
            one.close()


def _announced(settings: Settings, number: int, bound: tuple[str, int]) -> str:
    if not settings.reverse_advertise:
        return reverse_address(settings, (bound[0], bound[1]))
    host, port = parse_address(settings.reverse_advertise)
    return join((host, port + number))
