"""Which versions of a model a cluster is given, and which go.

Input: a Wish and a cluster's Room; which versions are warm where. Output: the versions to assign
there. `placement` says what may be there, `settle` applies it to the State.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from typing import Protocol

from federation.contract.types import AssignedVersion, Scheduling, Urgency, VersionState
from federation.policy.placement import Fit, Wish, is_barred, judge, sized
from federation.policy.rooms import Room
from federation.policy.standing import keeps_room

_HELD = frozenset({VersionState.LOADED, VersionState.WARMED, VersionState.DRAINING})


class Warmth(Protocol):
    """Where versions of a model are warm for good: told by a report that is about the newest
    assignment."""

    def here(self, room: Room, version: AssignedVersion) -> bool:
        """Whether a version is warm at this cluster."""

    def elsewhere(self, room: Room, number: int) -> bool:
        """Whether a wanted version is warm at another chosen cluster that is in contact."""

    def known(self, room: Room) -> bool:
        """Whether the newest report of this cluster is about its newest assignment."""


def place(wish: Wish, room: Room, *, chosen: bool, warmth: Warmth) -> tuple[AssignedVersion, ...]:
    """Return the versions of the wish's model that the cluster shall serve, ordered by number.

    `chosen`: the wish is for this cluster (see `choosing`).
    """
    current, ready = room.serving(wish.spec.model), room.held(wish.spec.model)
    swapped = _swapped(wish, room) if chosen else None
    result = _given(wish, room, room.asleep(wish.spec.model) | current) if chosen else {}
    if swapped is not None:
        result[swapped.version] = swapped
    here = result.get(wish.target)
    for number in current.keys() - result.keys():
        if is_barred(wish, room, number) or _goes_at_once(wish, number):
            continue
        if swapped is not None and number == _leaving(wish):
            continue
        if wish.asleep:
            may_go = True  # nobody uses it anywhere
        elif chosen and not is_barred(wish, room, wish.target):
            may_go = here is not None and warmth.here(room, here)
        else:
            may_go = warmth.elsewhere(room, number if number in wish.wanted else wish.target)
        if not may_go or room.record.scheduling is Scheduling.DRAINING:
            result[number] = current[number]
    waiting = {v.version for v in ready if v.stage_only and keeps_room(v) and not v.asleep}
    waiting |= {swapped.version} if swapped is not None else set()
    for number in () if wish.asleep else waiting & result.keys():
        held = not warmth.known(room) or _holds_others(wish, room, ready, result.keys())
        result[number] = replace(result[number], stage_only=held)
    _make_urgent(wish, result, current)
    return tuple(result[number] for number in sorted(result))


def _given(
    wish: Wish, room: Room, current: Mapping[int, AssignedVersion]
) -> dict[int, AssignedVersion]:
    """Return the wanted versions that a chosen cluster shall have: the target before the others, so
    that they don't take its room."""
    result: dict[int, AssignedVersion] = {}
    in_place = wish.canary is not None and wish.canary.in_place and room.name in wish.canary.at
    for number in wish.wanted_at(room.name):
        if in_place and number == _leaving(wish) and number not in room.serving(wish.spec.model):
            continue  # it went first
        fit = judge(wish, room, number, tell=False).fit
        if fit is Fit.FITS:
            result[number] = _kept_urgent(sized(wish, room, number), current.get(number))
            if not wish.is_plain:
                room.give(wish.spec.model, _joined(room.held(wish.spec.model), result[number]))
        elif fit is Fit.KEEPS and number in current:
            result[number] = current[number]
    return result


def _goes_at_once(wish: Wish, number: int) -> bool:
    """Whether a version was rolled back: its successor is warm, or must not wait for it."""
    canary = wish.canary
    return canary is not None and canary.withdrawn and number == canary.version


def _leaving(wish: Wish) -> int:
    """Return the version that goes first where two do not fit, and the rollout is in place."""
    canary = wish.canary
    if canary is None or not canary.in_place:
        return 0
    return canary.version if canary.withdrawn else wish.target


def _swapped(wish: Wish, room: Room) -> AssignedVersion | None:
    """Return what comes in place of a version that goes first; None if both fit, or nothing has to.

    It only lies ready until the engine has let go of the other one, which a report about that must
    tell: an agent keeps what serves while it loads a successor.
    """
    model, canary, leaving = wish.spec.model, wish.canary, _leaving(wish)
    if canary is None or not leaving or room.name not in canary.at:
        return None
    coming = wish.target if canary.withdrawn else canary.version
    serving = room.serving(model)
    if coming in serving or coming == leaving:
        return None
    held = room.held(model)
    if leaving in serving:
        if judge(wish, room, coming, tell=False).fit is not Fit.KEEPS:
            return None
        room.give(model, tuple(v for v in held if v.version != leaving))
    if judge(wish, room, coming, tell=False).fit is not Fit.FITS:
        room.give(model, held)
        return None
    return replace(sized(wish, room, coming), stage_only=True)


def _holds_others(
    wish: Wish, room: Room, given: Iterable[AssignedVersion], wanted: Set[int]
) -> bool:
    """Whether the engine has versions that must go first, or was told to load them until now."""
    seen = room.record.last.observed.versions if room.record.last else ()
    held = {v.version for v in seen if v.model == wish.spec.model and v.state in _HELD}
    return not wanted >= held | {v.version for v in given if not v.stage_only}


def _joined(held: tuple[AssignedVersion, ...], new: AssignedVersion) -> tuple[AssignedVersion, ...]:
    others = (version for version in held if version.version != new.version)
    return tuple(sorted((*others, new), key=lambda version: version.version))


def _kept_urgent(wanted: AssignedVersion, held: AssignedVersion | None) -> AssignedVersion:
    """A version that is there already stays as urgent as it was: no news without a reason."""
    same = held is not None and held.digest == wanted.digest
    return replace(wanted, urgency=held.urgency) if same and held else wanted


def _make_urgent(
    wish: Wish, result: dict[int, AssignedVersion], current: Mapping[int, AssignedVersion]
) -> None:
    """Where another version of the model is, the way back to the target must not wait."""
    if wish.urgency is not Urgency.ROLLBACK:
        return
    here = result.get(wish.target)
    others = (current.keys() | result.keys()) - {wish.target}
    if here is not None and others:
        result[wish.target] = replace(here, urgency=Urgency.ROLLBACK)
