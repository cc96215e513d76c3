"""Snapshots put to use, while requests go on.

Input: the bytes of a snapshot, from the control plane or from the keeper of this worker. Output:
the router's state routes by it, or Invalid. It is read and indexed in slices, between which the
loop serves requests; what the last snapshot held as well is neither read nor looked at again.
"""

import asyncio

from federation.contract.codec_snapshot_reading import SnapshotReader
from federation.contract.errors import Invalid
from federation.contract.types import Snapshot
from federation.runtime.memory import no_collection, spare_from_collection
from federation.runtime.slices import unhurried
from router.policy import table as tables
from router.state import RouterState

_MANY = 5000  # new members: a search for garbage among them takes milliseconds


class Applier:
    """Applies the snapshots of one control plane to one router, in their order."""

    def __init__(self, state: RouterState) -> None:
        self._state = state
        self._reader = SnapshotReader()
        self._turn = asyncio.Lock()
        self._spared = 0  # of the members that were read

    def __repr__(self) -> str:
        return f"Applier({self._reader})"

    async def apply(self, data: bytes) -> Snapshot:
        """Route by a snapshot from now on and return it; raises Invalid, and changes nothing."""
        async with self._turn:
            with no_collection():
                snapshot = await unhurried(self._reader.read(data))
                self._check(snapshot)
                before, reach = self._state.table, self._state.reach
                table = await unhurried(tables.building(snapshot, reach, before))
                self._check(snapshot)  # somebody may have swapped meanwhile
                self._state.swap(table)
            if self._reader.decoded - self._spared >= _MANY:
                self._spared = self._reader.decoded
                spare_from_collection()
            return snapshot

    def _check(self, snapshot: Snapshot) -> None:
        held = self._state.table.version if self._state.table else 0
        if snapshot.version < held:
            raise Invalid(f"Snapshot {snapshot.version} is older than {held}, which is in use.")
