"""What each cluster has room for while one event is decided: GPUs and disk, over all its models.

Input: a State. Output: Rooms, one Room per cluster, which `placement` asks and `settle` keeps up to
date with what it decides. A Room counts what was given (the assignment), not what happens to run:
else two decisions could give the same GPU away. Nothing here is stored.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import groupby

from federation.contract.capacity import Resources
from federation.contract.types import AssignedVersion, EngineKind, Scheduling
from federation.policy.autoscaling import Scale
from federation.policy.claims import Claim
from federation.policy.lookup import version_or_none
from federation.policy.packing import Packing, usable
from federation.policy.ranking import Ranking
from federation.policy.records import ClusterRecord, ModelRecord, VersionRecord
from federation.policy.standing import (
    assigned_versions,
    capacity_trouble,
    has_bytes,
    keeps_room,
    reserved,
    room_bytes,
)
from federation.policy.state import ScaleKey, State

PRICE_LABEL = "price-per-gpu-hour"
Rank = tuple[int, float, int]
_NONE = (0, 0)  # units free, and in all
_FEW = 3  # models that are looked up one by one


class Room:
    """One cluster as it stands, with what was decided about it by now."""

    def __init__(
        self,
        record: ClusterRecord,
        models: Mapping[str, ModelRecord],
        same: "Same",
        scales: Mapping[ScaleKey, Scale] | None = None,
    ) -> None:
        self._same = same
        self._scales = scales or {}
        self.record = record
        self.name = record.meta.name
        self.region = record.spec.region
        self.engine = record.last.engine if record.last else EngineKind.UNKNOWN
        self.blocked = _blocked(record)  # why it gets nothing new now, whatever it is
        self.stale = capacity_trouble(record)  # why it gets nothing new that needs GPUs
        self.active = record.membership.valid and record.scheduling is not Scheduling.DRAINING
        self._models = models
        self.count = len(record.assignment.versions)  # of what was given to it
        self._changed: dict[str, tuple[AssignedVersion, ...]] = {}
        self._packing: Packing | None = None
        self._held: dict[str, tuple[AssignedVersion, ...]] = {}  # as was asked
        self._all_held = False
        self._bytes: int | None = None
        self._ranks: dict[tuple[int, int], Rank] = {}  # by units free, and in all
        self.changes = 0  # counts what was given to it

    def __repr__(self) -> str:
        return f"Room({self.name}, {self.count} versions)"

    @cached_property
    def price(self) -> float | None:
        """What a GPU costs there for an hour."""
        return price_of(self.record.spec.labels)

    # ------------------------------------------------------------ what is there

    def held(self, model: str) -> tuple[AssignedVersion, ...]:
        """Return the versions of a model that were given to it, also those that only lie ready."""
        if (found := self._held.get(model)) is None:
            found = () if self._all_held else assigned_versions(self.record, model)
            self._held[model] = found
            if not self._all_held and len(self._held) > _FEW:
                self._hold_all()
        return found

    def _hold_all(self) -> None:
        """Look up all models at once: somebody asks for one after the other."""
        self._all_held = True
        for model, versions in groupby(self.record.assignment.versions, lambda v: v.model):
            self._held.setdefault(model, tuple(versions))

    def serving(self, model: str) -> dict[int, AssignedVersion]:
        """Return those that it is to load, by number."""
        return {version.version: version for version in self.held(model) if not version.stage_only}

    def asleep(self, model: str) -> dict[int, AssignedVersion]:
        """Return those that only lie ready because nobody uses them, by number."""
        return {version.version: version for version in self.held(model) if version.asleep}

    def serves(self, model: str) -> bool:
        """Whether it was given a version of a model to load."""
        return any(not version.stage_only for version in self.held(model))

    def versions(self) -> Iterator[AssignedVersion]:
        """Yield all that was given to it."""
        for version in self.record.assignment.versions:
            if version.model not in self._changed:
                yield version
        for versions in self._changed.values():
            yield from versions

    def asked(self, model: str, version: int) -> int | None:
        """Return how many replicas the load asks for; None = as many as there are."""
        scale = self._scales.get((self.name, model, version))
        return scale.asked if scale else None

    def renew(self, record: ClusterRecord) -> None:
        """Take the cluster's new record: its assignment is what was given by now."""
        self.record = record
        self._changed, self._held, self._all_held = {}, {}, False
        self.changes += 1

    def give(self, model: str, versions: tuple[AssignedVersion, ...]) -> bool:
        """Note that these are its versions of a model now; returns whether it has no more room for
        others than before, of any kind."""
        before = self.held(model)
        self._held[model] = self._changed[model] = versions
        self.count += len(versions) - len(before)
        self.changes += 1
        self._bytes = None
        self._ranks.clear()
        if self._packing is None or not any(v.needs.gpus for v in (*before, *versions)):
            return not before
        old, new = ([*self._claims(each)] for each in (before, versions))
        for claim in old:
            if claim not in new:
                self._packing.drop(claim.holder)
        arranged = self._packing.arranged
        if not all(self._packing.add(claim) for claim in new if claim not in old):
            self._packing = None
            return False
        return not before and self._packing.arranged == arranged

    # ------------------------------------------------------------ GPUs

    @property
    def packing(self) -> Packing:
        """Its pools with all that was given to it."""
        if self._packing is None:
            last = self.record.last
            pools = usable(last.capacity) if last else ()
            self._packing = Packing(pools, self._claims(self.versions()))
        return self._packing

    def _claims(self, versions: Iterable[AssignedVersion]) -> Iterator[Claim]:
        return (self._claim(v) for v in versions if v.needs.gpus and keeps_room(v))

    def _claim(self, version: AssignedVersion) -> Claim:
        claim = self._same.claim(version)
        if claim.needs.fraction and self.whole_units:
            return replace(claim, needs=self._same(replace(claim.needs, fraction=0.0)))
        return claim

    @cached_property
    def whole_units(self) -> bool:
        """Whether who asks for a share of a GPU gets a whole one: so it is on Kubernetes."""
        pools = self.record.last.capacity.pools if self.record.last else ()
        return any("/" in pool.resource for pool in pools)

    def refuses(self, needs: Resources, replicas: int) -> bool:
        """Whether it is known already that nothing new with these needs can come."""
        if self.blocked:
            return True
        if not needs.gpus or self._packing is None:
            return False
        return self._packing.refuses(self._same(needs), replicas)

    def takes(self, version: AssignedVersion) -> bool:
        """Whether its GPUs suffice for a version, besides all that it has."""
        return not version.needs.gpus or self.packing.fits(self._claim(version))

    def most(self, version: AssignedVersion, least: int) -> int:
        """Return how many replicas of a version have room, if not all: `least` to one less."""
        low, high = least, version.replicas
        while high - low > 1:
            middle = (low + high) // 2
            fits = self.takes(replace(version, replicas=middle))
            low, high = (middle, high) if fits else (low, middle)
        return low

    def lacks(self, version: AssignedVersion) -> str:
        """Return what its GPUs lack for a version, in words; "" if nothing."""
        if not version.needs.gpus:
            return ""
        last = self.record.last
        words = self.packing.miss(self._claim(version))
        why = last.capacity.reason if last and words and not self.packing.pools else ""
        return f"{words} ({why})" if why else words

    def rank(self, needs: Resources) -> Rank:
        """Return how a cluster compares with others for a new replica; the lowest is best: the
        share of the fitting units that is free (in tenths, negative), the price, what it has."""
        units = self.packing.units_left(needs) if needs.gpus else _NONE
        if (found := self._ranks.get(units)) is None:
            tenths = units[0] * 10 // units[1] if units[1] else 0
            price = float("inf") if self.price is None else self.price
            found = self._ranks[units] = (-tenths, price, self.count)
        return found

    def overcommitted(self) -> str:
        """Return what was given to it that it has no room for (any more), in words."""
        return self.packing.overcommitted() if any(self._claims(self.versions())) else ""

    # ------------------------------------------------------------ disk

    def lacks_disk(self, version: VersionRecord, model: str) -> str:
        """Return why the bytes of a version have no room besides all that it was given."""
        room = self._disk
        if room is None or has_bytes(self.record, version):
            return ""
        if self._bytes is None:
            self._bytes = sum(map(self._size, self.versions()))
        mine = sum(self._size(v) for v in self.held(model) if v.version == version.version)
        others = self._bytes - mine
        if others + version.size <= room:
            return ""
        besides = f" besides {_gib(others)} of others" if others else ""
        return (
            f"version {version.version} needs {_gib(version.size)} of disk{besides} and packages "
            f"may take {_gib(room)} there"
        )

    @cached_property
    def _disk(self) -> int | None:
        return room_bytes(self.record)

    def _size(self, held: AssignedVersion) -> int:
        model = self._models.get(held.model)
        version = version_or_none(model, held.version) if model else None
        return version.size if version else 0


class Same:
    """Makes equal requirements one object, so that they can be told apart without a look inside."""

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[Resources, Resources]] = {}  # who keeps them, keeps their ids
        self._by_value: dict[Resources, Resources] = {}
        self._claims: dict[int, tuple[AssignedVersion, Claim]] = {}  # by id, likewise

    def __call__(self, needs: Resources) -> Resources:
        """Return the first of all that are equal to these."""
        if (found := self._by_id.get(id(needs))) is None:
            first = self._by_value.setdefault(needs, needs)
            found = self._by_id[id(needs)] = (needs, first)
        return found[1]

    def claim(self, version: AssignedVersion) -> Claim:
        """Return what a version claims."""
        if (found := self._claims.get(id(version))) is None:
            holder, replicas = f"{version.model} {version.version}", reserved(version)
            claim = Claim(holder=holder, needs=self(version.needs), replicas=replicas)
            found = self._claims[id(version)] = (version, claim)
        return found[1]


class Rooms:
    """The Rooms of all clusters, made when somebody asks for them."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._rooms: dict[str, Room] = {}
        self._holders: dict[str, set[str]] | None = None
        self._found: dict[str, set[str]] = {}  # holders that were asked for one by one
        self._rankings: dict[tuple[Resources, Hashable], Ranking] = {}
        self._shared: dict[Hashable, Ranking] = {}
        self._same = Same()
        self.remembered: dict[Hashable, Mapping[str, list[str]]] = {}  # for `choosing`

    def __repr__(self) -> str:
        return f"Rooms({len(self._rooms)} of {len(self.state.clusters)} clusters)"

    def __getitem__(self, name: str) -> Room:
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = Room(
                self.state.clusters[name], self.state.models, self._same, self.state.scales
            )
        return room

    def __iter__(self) -> Iterator[Room]:
        return (self[name] for name in self.state.clusters)

    def give(self, name: str, model: str, versions: tuple[AssignedVersion, ...]) -> None:
        """Note that these are a cluster's versions of a model now."""
        worse = self[name].give(model, versions)
        for ranking in self._shared.values():
            ranking.note(name, worse=worse)

    def renew(self, name: str) -> None:
        """Look at a cluster's record anew: its assignment is what was given by now."""
        self[name].renew(self.state.clusters[name])
        if self._holders is not None:
            self._index(name)
        for model, found in self._found.items():
            if assigned_versions(self.state.clusters[name], model):
                found.add(name)

    def ranking(
        self, needs: Resources, key: Hashable, by_region: Mapping[str, list[str]]
    ) -> Ranking:
        """Return some clusters by rank for a new replica; `key` tells which clusters these are."""
        if (found := self._rankings.get((needs, key))) is None:
            same = self._same(needs)
            # Needs that are met by the same units everywhere have one order.
            names = [name for names in by_region.values() for name in names]
            met = (key, *(self[name].packing.group(same) for name in names if same.gpus))
            if (found := self._shared.get(met)) is None:
                found = self._shared[met] = Ranking(by_region, lambda name: self[name].rank(same))
            self._rankings[needs, key] = found
        return found

    def holders(self, model: str) -> set[str]:
        """Return the clusters that were given any version of a model."""
        if self._holders is None:
            if (found := self._found.get(model)) is None:
                found = {n for n, r in self.state.clusters.items() if assigned_versions(r, model)}
                self._found[model] = found
            return found
        return self._holders.get(model, set())

    def models(self) -> set[str]:
        """Return the models of which any cluster was given a version. From now on, `holders` is
        quick: this is for somebody who asks about all of them."""
        self._holders = {}
        for name in self.state.clusters:
            self._index(name)
        return set(self._holders)

    def _index(self, name: str) -> None:
        holders = self._holders
        for version in self.state.clusters[name].assignment.versions:
            if holders is not None:
                holders.setdefault(version.model, set()).add(name)


def price_of(labels: Mapping[str, str]) -> float | None:
    """Return what a cluster says a GPU costs for an hour; None if it says nothing readable."""
    try:
        price = float(labels[PRICE_LABEL])
    except (KeyError, ValueError):
        return None
    return price if 0 <= price < float("inf") else None


def _blocked(record: ClusterRecord) -> str:
    if not record.membership.valid:
        return "its agent has not joined yet"
    if record.last is None or record.last.engine is EngineKind.UNKNOWN:
        return "its agent has not told which engine it has"
    if record.scheduling is not Scheduling.ACTIVE:
        return f"it is {record.scheduling}: it gets nothing new"
    return ""


def _gib(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"
