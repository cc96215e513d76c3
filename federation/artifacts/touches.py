"""When packs were last relied on, kept across restarts in the object `touches`.

Input: packs whose chunks somebody was told are there. Output: touch times in the catalog, written
down at most once an hour for each pack, so that a restart does not make a pack look unused.
"""

import asyncio
import logging
from collections.abc import Collection

import msgspec

from federation.artifacts.base import ObjectStore
from federation.artifacts.catalog import Catalog
from federation.contract.errors import FederationError, NotFound
from federation.runtime.clock import Clock

_KEY = "touches"
log = logging.getLogger(__name__)


class Touches:
    """Touches packs in the catalog, and writes that down."""

    def __init__(self, objects: ObjectStore, catalog: Catalog, clock: Clock) -> None:
        self._objects = objects
        self._catalog = catalog
        self._clock = clock
        self._writing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Touches({self._catalog})"

    def touch(self, numbers: Collection[int]) -> None:
        """Renew the touch time of packs in memory: from now on no collection removes them."""
        self._catalog.touch(numbers, self._clock.utc())

    async def note(self, numbers: Collection[int]) -> None:
        """Write touches down if those of these packs are not.

        A store that cannot be written must not stop anybody from fetching. What is lost then is
        lost at a restart only, and costs a push its chunks a second time, nothing more.
        """
        if not self._catalog.unnoted(numbers):
            return
        async with self._writing:
            if not self._catalog.unnoted(numbers):
                return
            touches = self._catalog.touches(self._clock.utc())
            try:
                await self._objects.replace(_KEY, msgspec.json.encode(touches))
            except FederationError as error:
                log.warning("could not write down which packs are in use: %s", error.sentence())
            else:
                self._catalog.noted(touches)

    async def load(self) -> dict[str, int]:
        """Return what was written down: pack to Unix seconds."""
        try:
            data = b"".join([block async for block in self._objects.read(_KEY)])
            return msgspec.json.decode(data, type=dict[str, int])
        except NotFound:
            return {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.warning("the record of packs in use is damaged; it starts anew")
            return {}
