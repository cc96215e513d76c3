"""A store that forgets everything when the process ends: for trying things out, and for tests.

Input: Put and Delete commands. Output: the same records again, in the same process. Records are
kept as bytes, so that what could not be stored on disk cannot be stored here either.
"""

from collections.abc import Sequence

from federation.policy.events import Delete, Put
from federation.store.base import Loaded, by_kind, last_writes
from federation.store.records import decode, encode


class MemoryStore:
    """Keeps records in a dict."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], bytes] = {}
        self._revision = 0
        self._starts = 0

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._records)} records, revision={self._revision})"

    def load(self) -> Loaded:
        """Count a start and return everything."""
        self._starts += 1
        records = by_kind((k, n, decode(k, data)) for (k, n), data in self._records.items())
        return Loaded(records=records, revision=self._revision, starts=self._starts)

    def commit(self, batch: Sequence[Put | Delete], revision: int) -> None:
        """Apply all of the batch and remember the revision; or nothing, if a record is unfit."""
        records = dict(self._records)
        for key, command in last_writes(batch).items():
            if isinstance(command, Put):
                records[key] = encode(command.record)
            else:
                records.pop(key, None)
        self._records, self._revision = records, revision

    def close(self) -> None:
        """Do nothing: the records end with the object."""
