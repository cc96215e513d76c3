"""Do all these replicas fit into the pools of one cluster, and if not: by how little, in words.

Input: pools, and claims (what a replica needs, times replicas). Output: a Packing: which replica
takes which units of which pool, and the nearest miss of what does not fit.

A replica takes all its units from one pool, so they are on one node. Replicas with a fraction share
a unit: fractions and memory add up to at most one unit. Units that take turns on a device see all
of its memory: there, the memory of all replicas adds up to at most that of the devices.

The answer is exact within a bound: first each claim goes where it fits best; if that fails, counts
may prove that it is impossible; if they don't, `packing_search` looks for another arrangement, of
up to `DEPTH` (300) replicas in `STEPS` (4,000) steps. What is not found by then counts as not
fitting. Equal input gives equal output.

We do not know which of the free units an engine or a scheduler takes: "fits" means that there is an
arrangement, not that it is the one which exists.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from federation.contract.capacity import Capacity, Pool, Resources, pools_of
from federation.contract.matching import at, gib, kinds_of, misfit, nearest_misfit
from federation.policy.claims import Claim, Spot, amount, joined
from federation.policy.packing_search import (
    FULL,
    NO_LIMIT,
    Kind,
    Load,
    Loads,
    best_place,
    budget,
    may_fit,
    search,
)


@dataclass(frozen=True, slots=True)
class _Spread:
    """Where the replicas of a claim go, and what is left of the pools then."""

    kinds: list[Kind]
    spots: tuple[Spot, ...]


def usable(capacity: Capacity) -> tuple[Pool, ...]:
    """Return the pools with, as `free`, all that this federation may use: also what it holds now.

    An agent that tells no pools is one of a plain server, where they follow from the devices.
    """
    pools = capacity.pools or pools_of(capacity.devices)
    return tuple(replace(p, free=p.free + p.ours, ours=0) if p.ours else p for p in pools)


class Packing:
    """The replicas in the pools of one cluster. `owed` is what was there before and has no room any
    more: what it would need is given to nobody else."""

    def __init__(self, pools: Iterable[Pool], held: Iterable[Claim] = ()) -> None:
        self.pools = tuple(pools)
        self.owed: list[Claim] = []
        self._kinds = kinds_of(self.pools)
        self._start: list[Kind] = [(pool.free, (), budget(pool)) for pool in self.pools]
        self._now = list(self._start)
        self._claims: dict[str, Claim] = {}
        self._spots: dict[str, tuple[Spot, ...]] = {}
        self._loads: dict[int, tuple[Resources, Load]] = {}  # by id: a hash of Resources is slow
        self._by_needs: dict[Resources, Load] = {}
        self._groups: dict[tuple[int, ...], tuple[int, ...]] = {}  # equal ones are one object
        self._left: dict[int, tuple[int, int]] = {}  # by the id of a group: units free, and in all
        # What was asked for last and fits as it is now, and how (None: by another arrangement).
        self._let_in: tuple[Claim, _Spread | None] | None = None
        self._counted: tuple[dict[str, Claim], dict[Load, int]] | None = None
        self._refused: dict[Load, int] = {}  # from how many replicas on
        # Whole units and replicas that cannot come into some pools, as counting proved: nor can
        # more of either into fewer of these pools.
        self._proved: set[tuple[int, int, frozenset[int]]] = set()
        self.arranged = 0  # how often others were moved, which may free units of some kind
        self._hold(claim for claim in held if claim.needs.gpus)

    def __repr__(self) -> str:
        free = sum(kind[0] for kind in self._now)
        return f"Packing({len(self.pools)} pools, {len(self._claims)} claims, {free} units free)"

    @property
    def spots(self) -> tuple[Spot, ...]:
        """All that is taken, by holder."""
        return tuple(spot for name in sorted(self._spots) for spot in self._spots[name])

    def units_left(self, needs: Resources) -> tuple[int, int]:
        """Return how many units of the right kind are free, and how many there are."""
        group = self.group(needs)
        if (known := self._left.get(id(group))) is None:
            free = sum([self._now[n][0] for n in group])
            known = self._left[id(group)] = (free, sum([self._start[n][0] for n in group]))
        return known

    def group(self, needs: Resources) -> tuple[int, ...]:
        """Return the numbers of the pools that have the right kind of units."""
        return self._load(needs).pools

    def add(self, claim: Claim) -> bool:
        """Let a claim in, if all its replicas fit beside all others; else nothing changes.

        A claim of a holder that is there already replaces it.
        """
        if not claim.needs.gpus:
            self.drop(claim.holder)
            return True
        ready, self._let_in = self._let_in, None
        if ready and ready[1] and ready[0] == claim and not self._has(claim.holder):
            self._put(claim, ready[1])
            return True
        if self._was_refused(claim):
            return False
        before = self._take_out(claim.holder)
        if self._insert(claim) or self._rearrange(claim):
            return True
        if before:
            self._now, self._claims, self._spots, self.owed = before
            self._left.clear()
        else:
            self._refused[self._load(claim.needs)] = claim.replicas
        return False

    def _was_refused(self, claim: Claim) -> bool:
        return self.refuses(claim.needs, claim.replicas) and not self._has(claim.holder)

    def refuses(self, needs: Resources, replicas: int) -> bool:
        """Whether as much was refused to a newcomer before, and nothing was freed since. False says
        nothing."""
        if not self._refused:
            return False
        load = self._load(needs)
        limit = self._refused.get(load)
        if limit is not None and replicas >= limit:
            return True
        harder = not self.owed and any(
            units <= load.units and least <= replicas and inside.issuperset(load.pools)
            for units, least, inside in self._proved
        )
        if harder:
            self._refused[load] = replicas
        return harder

    def _has(self, holder: str) -> bool:
        return holder in self._claims or any(claim.holder == holder for claim in self.owed)

    def fits(self, claim: Claim) -> bool:
        """Whether `add` would let it in."""
        if self._let_in and claim == self._let_in[0]:
            return True
        if self._was_refused(claim):
            return False
        kept = (self._now, self._claims, self._spots, self.owed)
        found = None
        if not claim.needs.gpus:
            fits = True
        elif self._has(claim.holder):
            self._claims, self._spots = dict(self._claims), dict(self._spots)
            fits = self.add(claim)
        else:
            found = self._spread(claim, self._allowed(self._load(claim.needs)))
            fits = found is not None or self._rearrange(claim)
            if not fits:
                self._refused[self._load(claim.needs)] = claim.replicas
        if self._claims is not kept[1]:
            self._now, self._claims, self._spots, self.owed = kept
            self._left.clear()
        self._let_in = (claim, found) if fits else None
        return fits

    def drop(self, holder: str) -> None:
        """Free what a holder has."""
        if self._take_out(holder):
            self._let_in = None
            self._refused.clear()
            self._proved.clear()

    # ------------------------------------------------------------ inside

    def _load(self, needs: Resources) -> Load:
        if (found := self._loads.get(id(needs))) is not None:
            return found[1]
        if (load := self._by_needs.get(needs)) is None:
            fitting = [numbers for pool, numbers in self._kinds if misfit(pool, needs) is None]
            pools = tuple(sorted([n for numbers in fitting for n in numbers]))
            pools = self._groups.setdefault(pools, pools)
            share = round(needs.fraction * FULL)
            units = 0 if share else needs.gpus
            load = Load(units=units, share=share, memory=needs.memory_mib, pools=pools)
            self._by_needs[needs] = load
        self._loads[id(needs)] = (needs, load)  # keeping the needs keeps their id
        return load

    def _hold(self, claims: Iterable[Claim]) -> None:
        """Let in what is there already; what has no room is owed."""
        ordered = sorted(claims, key=lambda claim: (*self._load(claim.needs).order, claim.holder))
        if all(self._insert(claim) for claim in ordered):
            return
        self._now, self._claims, self._spots = list(self._start), {}, {}
        if self._solve({claim.holder: claim for claim in ordered}):
            return
        for claim in ordered:
            got = 0
            while got < claim.replicas and self._insert(replace(claim, replicas=1), more=True):
                got += 1
            if got < claim.replicas:
                self.owed.append(replace(claim, replicas=claim.replicas - got))

    def _allowed(self, load: Load) -> tuple[int, ...]:
        """The pools that may be used: those that nobody is owed something of."""
        if not self.owed:
            return load.pools
        closed = {n for claim in self.owed for n in self._load(claim.needs).pools}
        return tuple(n for n in load.pools if n not in closed)

    def _insert(self, claim: Claim, *, more: bool = False) -> bool:
        """Put each replica where it fits best; with `more`, besides those that it has."""
        load = self._load(claim.needs)
        found = self._spread(claim, load.pools if more else self._allowed(load))
        if found is None:
            return False
        held = self._claims.get(claim.holder)
        if more and held:
            claim = replace(claim, replicas=claim.replicas + held.replicas)
            found = _Spread(found.kinds, (*self._spots[claim.holder], *found.spots))
        self._put(claim, found)
        return True

    def _put(self, claim: Claim, found: "_Spread") -> None:
        self._now = found.kinds
        self._claims[claim.holder], self._spots[claim.holder] = claim, found.spots
        self._counted = None
        self._left.clear()

    def _spread(self, claim: Claim, allowed: tuple[int, ...]) -> "_Spread | None":
        """Say where each replica fits best as it is now; None = not all of them do."""
        load, now = self._load(claim.needs), self._now.copy()
        spots: list[Spot] = []
        for _ in range(claim.replicas):
            if (best := best_place(now, load, allowed, self.pools)) is None:
                return None
            n, slot, now[n] = best
            spots.append(Spot(holder=claim.holder, pool=n, units=load.units, slot=slot))
        return _Spread(now, tuple(spots))

    def _take_out(
        self, holder: str
    ) -> tuple[list[Kind], dict[str, Claim], dict[str, tuple[Spot, ...]], list[Claim]] | None:
        """Free what a holder has; return how it was before, None if it had nothing."""
        if not self._has(holder):
            return None
        before = (self._now, self._claims, self._spots, self.owed)
        rest = [claim for name, claim in self._claims.items() if name != holder]
        missing = [claim for claim in self.owed if claim.holder != holder]
        again = Packing(self.pools, joined(rest, missing))
        self._now, self._claims = again._now, again._claims
        self._spots, self.owed = again._spots, again.owed
        self._left.clear()
        return before

    def _rearrange(self, claim: Claim) -> bool:
        """Look for another arrangement of everything, if counting leaves it open."""
        load = self._load(claim.needs)
        if self.owed:
            load = replace(load, pools=self._allowed(load))
        demand = self._demand()
        demand[load] = demand.get(load, 0) + claim.replicas
        if not may_fit(self._start, demand, load):
            if load.units and not self.owed:
                self._proved.add((load.units, claim.replicas, frozenset(load.pools)))
            return False
        return self._solve({**self._claims, claim.holder: claim}, newest=claim.holder)

    def _demand(self) -> dict[Load, int]:
        """How many replicas there are of each kind."""
        if self._counted is None or self._counted[0] is not self._claims:
            found: dict[Load, int] = {}
            for claim in self._claims.values():
                load = self._load(claim.needs)
                found[load] = found.get(load, 0) + claim.replicas
            self._counted = (self._claims, found)
        return dict(self._counted[1])

    def _solve(self, claims: dict[str, Claim], newest: str = "") -> bool:
        loads: Loads = []
        for name, claim in claims.items():
            load = self._load(claim.needs)
            if name == newest and self.owed:
                load = replace(load, pools=self._allowed(load))
            loads.append((name, load, claim.replicas))
        memory = [pool.memory_mib for pool in self.pools]
        found = search(self._start, memory, loads)
        if found is None:
            return False
        self.arranged += 1
        self._now = list(found.kinds)
        self._claims = dict(claims)
        self._spots = {}
        self._left.clear()
        units = {name: load.units for name, load, _ in loads}
        for name, pool, slot in found.moves:
            spot = Spot(holder=name, pool=pool, units=units[name], slot=slot)
            self._spots[name] = (*self._spots.get(name, ()), spot)
        return True

    # ------------------------------------------------------------ in words

    def miss(self, claim: Claim) -> str:
        """Return why a claim does not fit, as "needs ..., ..."; "" if it does."""
        if not claim.needs.gpus or self.fits(claim):
            return ""
        needs, load = claim.needs, self._load(claim.needs)
        if not load.pools:
            return nearest_misfit(self.pools, needs) or f"needs {amount(needs)} and has no GPUs"
        if claim.replicas > 1 and self.fits(replace(claim, replicas=1)):
            return f"{self._needs_all(claim)}{self._held_by(load, claim.holder)}"
        return f"needs {amount(needs)}{self._most(load)}{self._held_by(load, claim.holder)}"

    def _most(self, load: Load) -> str:
        """The nearest miss, where the kind is right and no replica has room."""
        if load.share:
            return f"; {self._largest_share(load)}"
        best = max(load.pools, key=lambda n: (self._now[n][0], -n))
        free = self._now[best][0]
        if free >= load.units:
            return f"; {self._why_closed(load)}"
        if load.units == 1:
            return " and none is free"
        where = at(self.pools[best]) if free else ""
        return f" on one node; the most that are free together is {free}{where}"

    def _needs_all(self, claim: Claim) -> str:
        """How many of its replicas would fit."""
        low, high = 1, claim.replicas
        while high - low > 1:
            middle = (low + high) // 2
            fits = self.fits(replace(claim, replicas=middle))
            low, high = (middle, high) if fits else (low, middle)
        return f"needs {claim.replicas} times {amount(claim.needs)} and has room for {low}"

    def _largest_share(self, load: Load) -> str:
        best = max(load.pools, key=lambda n: (_free_share(self._now[n]), -n))
        share, memory = _free_share(self._now[best])
        if not share:
            return "none is free"
        told = f" and {gib(memory)}" if memory < NO_LIMIT and load.memory else ""
        return f"the most that is free of one is {share / FULL:.3g}{told}{at(self.pools[best])}"

    def _why_closed(self, load: Load) -> str:
        """Units are free, and still it may not have them."""
        if self.owed and not self._allowed(load):
            names = ", ".join(sorted({claim.holder for claim in self.owed}))
            return f"what is free is owed to {names}"
        return "the memory that its GPUs share is given away"

    def _held_by(self, load: Load, asker: str) -> str:
        """Who else has the units of the right kind, of ours and of others."""
        held: dict[str, float] = {}
        for name, spots in sorted(self._spots.items()):
            if name == asker:
                continue
            mine = self._load(self._claims[name].needs)
            for spot in spots:
                if spot.pool in load.pools:
                    held[name] = held.get(name, 0) + (spot.units or mine.share / FULL)
        parts = [f"{name} holds {count:.3g}" for name, count in held.items()]
        pools = [self.pools[n] for n in load.pools]
        if others := sum(max(p.allocatable - p.free, 0) for p in pools if not p.reason):
            parts.append(f"others hold {others}")
        parts += dict.fromkeys(f"{p.node or p.resource}: {p.reason}" for p in pools if p.reason)
        return f" ({', '.join(parts)})" if parts else ""

    def overcommitted(self) -> str:
        """Return what was given more than there is, in words; "" if all fits."""
        if not self.owed:
            return ""
        told = []
        for claim in self.owed:
            wants = f"{claim.replicas} times {amount(claim.needs)}"
            load = self._load(claim.needs)
            words = (
                "" if load.pools else f": {nearest_misfit(self.pools, claim.needs) or 'no GPUs'}"
            )
            told.append(f"{claim.holder} has no room for {wants}{words}")
        return f"overcommitted: {'; '.join(told)}"


def _free_share(kind: Kind) -> tuple[int, int]:
    if kind[0]:
        return FULL, NO_LIMIT
    return max(kind[1], default=(0, 0))
