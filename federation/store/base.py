"""What the control loop asks of a store: load everything once, then commit batches atomically.

Input: Put and Delete commands. Output: the records after a restart. Every implementation passes
tests/contract/test_store.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from federation.policy.events import Delete, Put


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """All that a store remembers.

    `records` by kind and name. `revision` is that of the last commit. `starts` counts how often
    this store was loaded, this time included: it makes snapshot versions grow across restarts.
    """

    records: Mapping[str, Mapping[str, object]]
    revision: int
    starts: int


class Store(Protocol):
    """Used by one control loop at a time, from one thread at a time."""

    def load(self) -> Loaded:
        """Count a start and return everything; raises Invalid if the data cannot be read."""
        ...

    def commit(self, batch: Sequence[Put | Delete], revision: int) -> None:
        """Apply all of the batch, in order, and remember the revision; or nothing at all."""
        ...

    def close(self) -> None:
        """Release the store; it cannot be used afterwards."""
        ...


def by_kind(records: Iterable[tuple[str, str, object]]) -> dict[str, dict[str, object]]:
    """Group (kind, name, record) by kind and name."""
    grouped: dict[str, dict[str, object]] = {}
    for kind, name, record in records:
        grouped.setdefault(kind, {})[name] = record
    return grouped


def last_writes(batch: Sequence[Put | Delete]) -> dict[tuple[str, str], Put | Delete]:
    """Return what is left to do for each object when earlier writes of it are skipped."""
    return {(command.kind, command.name): command for command in batch}
