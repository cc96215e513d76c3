"""The routers that this agent dials if its cluster is reached by reverse connections.

Input: the addresses that the control plane tells, or those of the last run from STATE/routers.json.
Output: the newest list, for whoever dials; they hear of each change.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from federation.contract.trust import RouterAddress
from federation.runtime.files import write_atomic

log = logging.getLogger(__name__)

ROUTERS_FILE = "routers.json"


class KnownRouters:
    """The newest addresses, in memory and on disk."""

    def __init__(self, state_dir: Path) -> None:
        self.on_change: list[Callable[[], None]] = []
        self._path = state_dir / ROUTERS_FILE
        self._addresses = self._read()

    def __repr__(self) -> str:
        return f"KnownRouters({', '.join(router.name for router in self._addresses) or 'none'})"

    @property
    def addresses(self) -> tuple[RouterAddress, ...]:
        """The routers to dial."""
        return self._addresses

    def keep(self, addresses: tuple[RouterAddress, ...]) -> None:
        """Replace the list. A full disk is logged and costs only the next restart."""
        if addresses == self._addresses:
            return
        self._addresses = addresses
        try:
            write_atomic(self._path, msgspec.json.encode(addresses))
        except OSError:
            log.exception("the routers' addresses could not be kept: a restart asks for them")
        for tell in self.on_change:
            tell()

    def _read(self) -> tuple[RouterAddress, ...]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=tuple[RouterAddress, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("%s cannot be used; the control plane is asked: %s", self._path, error)
            return ()
