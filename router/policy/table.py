"""The snapshot, checked and indexed for routing.

Input: a Snapshot from the control plane, from disk or from a file. Output: a RoutingTable, swapped
whole by `watch`, read by `proxy`, `probe` and `explain`. Endpoints outside a model's residency are
not in its index.
"""

import re
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar
from urllib.parse import urlsplit

from federation.contract.errors import Invalid, NotFound
from federation.contract.names import did_you_mean, split_reference
from federation.contract.slices import finish
from federation.contract.types import Connectivity, Endpoint, ModelRoute, Replica, Snapshot
from router.policy import access as access_rules
from router.policy import residency, split
from router.policy.access import AccessTable

T = TypeVar("T")
_USUAL_URL = re.compile(r"https://[a-z0-9][a-z0-9.-]*(?::[1-9][0-9]{0,3})?/?")
_SLICE = 2048  # members of a snapshot that are looked at in one go


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Which connections a router makes: `secure` over mutual TLS alone, `reverse` also takes those
    that clusters make. The default is that of a router that routes by a file."""

    secure: bool = False
    reverse: bool = False


@dataclass(slots=True, kw_only=True)  # not frozen: one is made for each call of gRPC
class Resolved:
    """A model reference after its version is chosen. With a `split` the request names no version,
    and `version` is the stable one until a cluster is chosen."""

    route: ModelRoute
    version: int
    split: "split.Split | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTable:
    """All that a routing decision reads. `serving` holds, by model and version, the endpoints
    with a warm replica inside the model's residency; `warm`, all replicas, by cluster as well;
    `unusable`, why an endpoint cannot be dialled."""

    snapshot: Snapshot
    models: Mapping[str, ModelRoute] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    serving: Mapping[tuple[str, int], tuple[Endpoint, ...]] = field(default_factory=dict)
    versions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warm: Mapping[tuple[str, int], Mapping[str, Replica]] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    access: AccessTable = field(default_factory=AccessTable)

    def __repr__(self) -> str:
        return (
            f"RoutingTable(version={self.version}, models={len(self.models)}, "
            f"endpoints={len(self.endpoints)}, replicas={len(self.snapshot.replicas)})"
        )

    @property
    def version(self) -> int:
        """The version of the snapshot."""
        return self.snapshot.version

    def replicas(
        self, model: str, version: int, regions: Collection[str] = ()
    ) -> tuple[Endpoint, ...]:
        """Return the endpoints that may serve this model version to a caller whose requests must
        stay in `regions` (empty = anywhere); empty when there are none."""
        found = self.serving.get((model, version), ())
        return tuple(e for e in found if residency.inside(regions, e)) if regions else found

    def resolve(
        self,
        reference: str,
        version: int | None = None,
        visible: Callable[[str], bool] = lambda _: True,
    ) -> Resolved:
        """Return route and version of `model`, `model@2` or `model@alias`; a `version` given apart,
        as in a V2 path, wins. Raises NotFound for what is unknown, naming near misses among the
        models that are `visible` to the caller."""
        name, wanted = split_reference(reference)
        route = self.models.get(name)
        if route is None:
            raise NotFound(
                f"There is no model {name!r} here.",
                hint=did_you_mean(name, filter(visible, self.models)),
                reason="unknown-model",
            )
        if version is None and not wanted:
            return Resolved(route=route, version=route.default_version, split=split.of(route))
        if version is None and wanted in route.aliases:
            return Resolved(route=route, version=route.aliases[wanted])
        number = _number(wanted) if version is None else version
        if number is not None and self._knows(route, number):
            return Resolved(route=route, version=number)
        raise self._unknown_version(route, wanted if version is None else str(version))

    def _unknown_version(self, route: ModelRoute, wanted: str) -> NotFound:
        kind = "version or alias" if _number(wanted) is None else "version"
        known = [str(number) for number in self.versions[route.name]] + list(route.aliases)
        return NotFound(
            f"Model {route.name!r} has no {kind} {wanted!r} here.",
            hint=did_you_mean(wanted, known),
            reason="unknown-version",
        )

    def _knows(self, route: ModelRoute, version: int) -> bool:
        return (
            version in self.versions[route.name]
            or version == route.default_version
            or version in route.aliases.values()
        )


def build(snapshot: Snapshot, reach: Reach | None = None) -> RoutingTable:
    """Index a snapshot; raises Invalid, naming everything that is inconsistent.

    Endpoints whose connections are reversed have no URL in the table.
    """
    return finish(building(snapshot, reach))


def building(
    snapshot: Snapshot, reach: Reach | None = None, before: RoutingTable | None = None
) -> Generator[None, None, RoutingTable]:
    """Do the same in slices. What is the same object as in the table `before`, which was built with
    the same `reach`, is not looked at again."""
    models = {route.name: route for route in snapshot.models}
    endpoints, unusable = yield from _looking_at(snapshot.endpoints, reach or Reach(), before)
    if (len(models), len(endpoints)) != (len(snapshot.models), len(snapshot.endpoints)):
        raise _inconsistent(snapshot)
    warm: dict[tuple[str, int], dict[str, Replica]] = {}
    for those in _slices(snapshot.replicas):
        for one in those:
            held = warm.get(key := (one.model, one.version))
            if held is None:
                held = warm[key] = {}
            held[one.cluster] = one
        yield
    serving = {}
    for groups in _slices(warm.items(), _SLICE // 64):
        for key, held in groups:
            found = list(filter(None, map(endpoints.get, held)))
            if key[0] not in models or len(found) != len(held):
                raise _inconsistent(snapshot)
            usable = [e for e in found if e.cluster not in unusable] if unusable else found
            serving[key] = residency.permitted(models[key[0]], usable)
        yield
    same_access = before is not None and snapshot.access is before.snapshot.access
    return RoutingTable(
        snapshot=snapshot,
        models=models,
        endpoints=endpoints,
        serving=serving,
        versions=_versions(models, warm),
        warm=warm,
        unusable=unusable,
        access=before.access if before and same_access else access_rules.build(snapshot.access),
    )


def _inconsistent(snapshot: Snapshot) -> Invalid:
    """Say all that is wrong with a snapshot: the index shows only that something is."""
    problems = "; ".join(snapshot.problems())
    return Invalid(f"Snapshot {snapshot.version} is inconsistent: {problems}.")


def _looking_at(
    members: Iterable[Endpoint], reach: Reach, before: RoutingTable | None
) -> Generator[None, None, tuple[dict[str, Endpoint], dict[str, str]]]:
    """Return the endpoints as routers use them, and why some cannot be used."""
    endpoints: dict[str, Endpoint] = {}
    unusable: dict[str, str] = {}
    held = before.endpoints if before is not None else {}
    known = before.unusable if before is not None else {}
    dial, usual = Connectivity.DIAL, _USUAL_URL.fullmatch
    for some in _slices(members):
        for endpoint in some:
            name = endpoint.cluster
            if held.get(name) is endpoint:
                endpoints[name], why = endpoint, known.get(name)
            elif endpoint.connectivity is dial and usual(endpoint.url):
                endpoints[name] = endpoint
                continue
            else:
                endpoints[name], why = _plain(endpoint), _problem(endpoint, reach)
            if why:
                unusable[name] = why
        yield
    return endpoints, unusable


def _slices(members: Iterable[T], size: int = _SLICE) -> Iterable[list[T]]:
    rest = iter(members)
    while some := list(islice(rest, size)):
        yield some


def _versions(
    models: Mapping[str, ModelRoute], holders: Iterable[tuple[str, int]]
) -> dict[str, tuple[int, ...]]:
    found: dict[str, set[int]] = {name: set(route.dormant) for name, route in models.items()}
    for model, version in holders:
        found[model].add(version)
    return {name: tuple(sorted(numbers)) for name, numbers in found.items()}


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _plain(endpoint: Endpoint) -> Endpoint:
    reversed_ = endpoint.connectivity is Connectivity.REVERSE
    return replace(endpoint, url="") if reversed_ and endpoint.url else endpoint


def _problem(endpoint: Endpoint, reach: Reach) -> str:
    """Return why one endpoint cannot be used. Odd ones must not make the whole snapshot unusable,
    so this is no `problem()`."""
    match endpoint.connectivity:
        case Connectivity.REVERSE if reach.reverse:
            return ""
        case Connectivity.REVERSE:
            return "its agent dials routers, and this one takes no such connections"
        case Connectivity.DIAL:
            return _url_problem(endpoint.url, reach)
        case _:
            return "it connects in a way that this release does not know"


def _url_problem(url: str, reach: Reach) -> str:
    unusable = f"its URL {url!r} cannot be dialled"
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            return unusable
    except ValueError:
        return unusable
    if reach.secure and parts.scheme != "https":
        return f"its URL {url!r} is plain HTTP, which only tables in files may have"
    return ""
