"""What of a cluster's capacity is news: devices that came or went at once, free units soon.

Input: what was known and what is reported. Output: whether they differ in what must be stored, or
in what is free; when the fleet is to be looked at again.

Use changes all the time and matters to nobody's placement. What is free changes all the time where
others use the cluster as well: it is kept in memory, and all such changes of a second settle
together, without a commit of their own.
"""

from dataclasses import replace
from datetime import timedelta

from federation.contract.capacity import Capacity, Pool
from federation.policy.records import LastObserved
from federation.policy.state import Step

STALE_S = 30.0  # an inventory that was not renewed for so long cannot be relied on
PAUSE = timedelta(seconds=1)


def same_build(old: Capacity, new: Capacity) -> bool:
    """Whether two capacities differ in nothing but use, what is free, who waits, and words."""
    return old.devices == new.devices and (
        old.pools is new.pools
        or old.pools == new.pools
        or (
            len(old.pools) == len(new.pools)
            and all(_same_units(*pair) for pair in zip(old.pools, new.pools, strict=True))
        )
    )


def _same_units(old: Pool, new: Pool) -> bool:
    return old == new or old == replace(new, free=old.free, ours=old.ours, reason=old.reason)


def staleness(capacity: Capacity, before: str) -> str:
    """Return why a capacity cannot be relied on, in words; empty = it can.

    `before` is what was said last: the words stay as they are while nothing changes.
    """
    if capacity.age_s <= STALE_S:
        return ""
    return before or (
        f"its inventory was not renewed for more than {STALE_S:.0f} s"
        f"{': ' if capacity.reason else ''}{capacity.reason}"
    )


def take_room(step: Step, cluster: str, old: LastObserved, new: LastObserved) -> None:
    """Keep in memory what is free now, and have the fleet settled soon if that changed."""
    record = step.state.clusters[cluster]
    if record.last is old and old.capacity != new.capacity:  # nothing else is new: no commit
        last = replace(old, capacity=new.capacity)
        step.state.clusters[cluster] = replace(record, last=last)
    if _free(old.capacity) != _free(new.capacity):
        settle_soon(step)


def settle_soon(step: Step) -> None:
    """Ask for one look at the whole fleet, a pause from the first change on."""
    if step.state.settle_at is None:
        step.state.settle_at = step.now + PAUSE
    step.wake_at(step.state.settle_at)


def settle_is_due(step: Step) -> bool:
    """Whether the pause is over; if it is, the next change begins another."""
    due = step.state.settle_at
    if due is None:
        return False
    # A clock that was set back must not silence us.
    if due - PAUSE <= step.now < due:
        step.wake_at(due)
        return False
    step.state.settle_at = None
    return True


def _free(capacity: Capacity) -> list[tuple[int, int]]:
    return [(pool.free, pool.ours) for pool in capacity.pools]
