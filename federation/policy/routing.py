"""Which version answers requests that name none.

Input: a Wish and a State. Output: a version number. The deployment's version is chosen as soon as
a cluster that is in contact has it warm; until then the version that was chosen before stays, and
only when nobody in contact has that one warm either, another warm one takes over: a model that
anybody can serve is never without a default that somebody serves. A deployment that may sleep is
the exception: while its default is on its way, requests wait for it.
"""

from collections.abc import Collection, Iterator

from federation.contract.types import VersionState
from federation.policy.placement import Wish
from federation.policy.records import ClusterRecord
from federation.policy.standing import (
    assigned_versions,
    is_confirmed,
    is_present,
    is_routable,
    warm_versions,
)
from federation.policy.state import State


def choose_version(state: State, wish: Wish, routed: int, at: Collection[str]) -> int:
    """Return the version to route to by default, 0 if none was ever warm.

    `routed` is the one chosen before (0 = none), `at` the clusters that were given the model.
    """
    target = wish.target
    for record in _serving(state, wish, at):
        if is_confirmed(state, record.meta.name) and target in _warm(record, wish):
            return target
    if wish.spec.scaling.may_sleep and _is_coming(state, wish, routed, at):
        return routed
    present, known = _warm_by_contact(state, wish, at)
    for warm in (present, known):
        for number in (routed, target, *sorted(warm, reverse=True)):
            if number in warm:
                return number
    return routed if routed in wish.versions else 0


def _is_coming(state: State, wish: Wish, number: int, at: Collection[str]) -> bool:
    """Whether a cluster in contact was given a version, and has not failed with it."""
    for record in _serving(state, wish, at):
        given = {v.version for v in assigned_versions(record, wish.spec.model)}
        if number not in given or not is_present(state, record.meta.name):
            continue
        seen = record.last.observed.versions if record.last else ()
        told = {v.version: v.state for v in seen if v.model == wish.spec.model}
        if told.get(number) is not VersionState.FAILED:
            return True
    return False


def _warm_by_contact(state: State, wish: Wish, at: Collection[str]) -> tuple[set[int], set[int]]:
    """Return the versions that are warm at clusters that hold a lease, and at any cluster."""
    present: set[int] = set()
    known: set[int] = set()
    for record in _serving(state, wish, at):
        warm = _warm(record, wish)
        known |= warm
        if is_present(state, record.meta.name):
            present |= warm
    return present, known


def _serving(state: State, wish: Wish, at: Collection[str]) -> Iterator[ClusterRecord]:
    """Yield the clusters to which requests for the model may go."""
    for name in at:
        record = state.clusters[name]
        inside = not wish.spec.residency or record.spec.region in wish.spec.residency
        if inside and is_routable(record):
            yield record


def _warm(record: ClusterRecord, wish: Wish) -> set[int]:
    return {assigned.version for assigned in warm_versions(record, wish.spec.model)}
