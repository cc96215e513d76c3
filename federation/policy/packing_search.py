"""The search behind `packing`: another arrangement of all replicas, if there is one.

Input: what each pool has (a Kind) and loads, each so many times. Output: which replica goes into
which pool, or None.

Pools in the same condition that the same loads may use are interchangeable, so the search walks
over how many pools are in which condition, not over pools; conditions from which nothing was found
are remembered.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from federation.contract.capacity import Pool, Sharing

FULL = 1_000_000  # a whole unit, in shares
NO_LIMIT = 1 << 60
STEPS = 4_000  # conditions that one search looks at
DEPTH = 300  # replicas that one search arranges

# What is left of a pool: whole units, (share, MiB) of each shared unit, MiB for all of it.
Kind = tuple[int, tuple[tuple[int, int], ...], int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Load:
    """What one replica takes: whole `units` or a `share` of one, `memory` MiB of each, of one of
    `pools` (their numbers). Each is equal to itself only."""

    units: int
    share: int
    memory: int
    pools: tuple[int, ...]

    @property
    def order(self) -> tuple[int, int, int, int]:
        """What goes first: whole units, many, of few pools."""
        return (self.share > 0, -self.units, len(self.pools), -self.share)


Loads = list[tuple[str, Load, int]]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Replica by replica: holder, pool, slot; and what is left of the pools after all of them."""

    moves: tuple[tuple[str, int, int], ...]
    kinds: tuple[Kind, ...]


def budget(pool: Pool) -> int:
    """Return how many MiB all replicas in a pool may use together, where its units set no bound."""
    if pool.sharing is not Sharing.TIME_SLICING or not pool.memory_mib or not pool.physical:
        return NO_LIMIT
    return pool.memory_mib * pool.physical


def steps(kind: Kind, load: Load, memory: int) -> Iterator[tuple[int, Kind]]:
    """Yield each way for one replica to go into a pool: the slot (-1 = whole units) and what is
    left. `memory` is that of one unit, MiB, 0 = not known."""
    left, shared, budget = kind
    if not load.share:
        after = budget - load.memory * load.units
        if left >= load.units and after >= 0:
            yield -1, (left - load.units, shared, after if budget < NO_LIMIT else budget)
        return
    after = budget - load.memory if budget < NO_LIMIT else budget
    if after < 0:
        return
    seen = set()
    for slot, (share, free) in enumerate(shared):
        if share >= load.share and free >= load.memory and (share, free) not in seen:
            seen.add((share, free))
            rest = (share - load.share, free - load.memory)
            yield slot, (left, (*shared[:slot], rest, *shared[slot + 1 :]), after)
    if left:
        rest = (FULL - load.share, (memory or NO_LIMIT) - load.memory)
        yield len(shared), (left - 1, (*shared, rest), after)


def best_place(
    now: list[Kind], load: Load, allowed: Iterable[int], pools: Sequence[Pool]
) -> tuple[int, int, Kind] | None:
    """Return pool, slot and what is left of it where one replica fits best: where least is left,
    and a unit that is shared already goes first."""
    if load.share:
        return _best_share(now, load, allowed, pools)
    units, memory = load.units, load.memory * load.units
    best: Kind | None = None
    where = -1
    for n in allowed:  # as `steps` says; asked so often that a plain loop pays
        left, shared, budget = now[n]
        if left < units or budget < memory or (best is not None and left - units > best[0]):
            continue
        after = (left - units, shared, budget - memory if budget < NO_LIMIT else budget)
        if best is None or after < best:
            best, where = after, n
    return None if best is None else (where, -1, best)


def _best_share(
    now: list[Kind], load: Load, allowed: Iterable[int], pools: Sequence[Pool]
) -> tuple[int, int, Kind] | None:
    best: tuple[tuple[bool, Kind], int, int] | None = None
    for n in allowed:
        opened = len(now[n][1])
        for slot, kind in steps(now[n], load, pools[n].memory_mib):
            rank = (slot == opened, kind)
            if best is None or rank < best[0]:
                best = (rank, n, slot)
    return (best[1], best[2], best[0][1]) if best else None


def search(kinds: list[Kind], memory: list[int], loads: Loads) -> Arrangement | None:
    """Return an arrangement of all loads, or None if there is none or it was not found in time."""
    ordered = sorted(loads, key=lambda each: (*each[1].order, each[0]))
    items = [(name, load) for name, load, replicas in ordered for _ in range(replicas)]
    if len(items) > DEPTH:
        return None
    return _Search(kinds, memory, items).run()


def may_fit(kinds: list[Kind], demand: Mapping[Load, int], newest: Load | None = None) -> bool:
    """Whether counting alone leaves it open that all this fits. Exact where it says no.

    With `newest`, all but some replicas of that are known to fit.
    """
    for load, replicas in demand.items() if newest is None else ((newest, demand[newest]),):
        if load.units and replicas > sum([kinds[n][0] // load.units for n in load.pools]):
            return False
    for pools in {load.pools for load in demand}:
        inside, needed, shares = frozenset(pools), 0, 0
        if newest is not None and newest.pools is not pools and not inside.issuperset(newest.pools):
            continue
        for load, replicas in demand.items():
            if load.pools == pools or inside.issuperset(load.pools):
                needed += load.units * replicas
                shares += load.share * replicas
        if needed + -(-shares // FULL) > sum([kinds[n][0] for n in pools]):
            return False
    return True


# A class of pools that the same loads may use and whose units are equal, and their condition.
_Condition = tuple[int, Kind]


class _Search:
    def __init__(self, kinds: list[Kind], memory: list[int], items: list[tuple[str, Load]]) -> None:
        self._kinds, self._memory, self._items = kinds, memory, items
        users: dict[int, list[int]] = {n: [] for n in range(len(kinds))}
        for number, pools in enumerate(dict.fromkeys(load.pools for _, load in items)):
            for n in pools:
                users[n].append(number)
        classes: dict[tuple[tuple[int, ...], int], int] = {}
        self._class = [
            classes.setdefault((tuple(users[n]), memory[n]), len(classes))
            for n in range(len(kinds))
        ]
        self._memory_of = {c: unit for (_, unit), c in classes.items()}
        self._may = [frozenset(self._class[n] for n in load.pools) for _, load in items]
        self._hopeless: set[tuple[int, frozenset[tuple[_Condition, int]]]] = set()
        self._left = STEPS

    def run(self) -> Arrangement | None:
        counts: dict[_Condition, int] = {}
        for n, kind in enumerate(self._kinds):
            condition = (self._class[n], kind)
            counts[condition] = counts.get(condition, 0) + 1
        path = self._descend(0, counts)
        return None if path is None else self._replayed(path)

    def _descend(
        self, index: int, counts: dict[_Condition, int]
    ) -> list[tuple[_Condition, Kind]] | None:
        """Return the conditions that the items from `index` on change, last one first."""
        if index == len(self._items):
            return []
        key = (index, frozenset(counts.items()))
        if key in self._hopeless or self._left <= 0:
            return None
        self._left -= 1
        _, load = self._items[index]
        options = sorted(
            {
                (len(after[1]) > len(condition[1][1]), _sorted(after), condition)
                for condition in counts
                if condition[0] in self._may[index]
                for _, after in steps(condition[1], load, self._memory_of[condition[0]])
            }
        )
        for _, after, condition in options:
            moved = dict(counts)
            moved[condition] -= 1
            if not moved[condition]:
                del moved[condition]
            new = (condition[0], after)
            moved[new] = moved.get(new, 0) + 1
            if (path := self._descend(index + 1, moved)) is not None:
                path.append((condition, after))
                return path
        self._hopeless.add(key)
        return None

    def _replayed(self, path: list[tuple[_Condition, Kind]]) -> Arrangement:
        """Say which pools the path means."""
        now = list(self._kinds)
        moves = []
        for (name, load), ((group, before), after) in zip(self._items, reversed(path), strict=True):
            n = next(
                n
                for n, kind in enumerate(now)
                if self._class[n] == group and _sorted(kind) == before
            )
            slot, now[n] = next(
                (slot, kind)
                for slot, kind in steps(now[n], load, self._memory[n])
                if _sorted(kind) == after
            )
            moves.append((name, n, slot))
        return Arrangement(tuple(moves), tuple(now))


def _sorted(kind: Kind) -> Kind:
    return (kind[0], tuple(sorted(kind[1])), kind[2]) if len(kind[1]) > 1 else kind
