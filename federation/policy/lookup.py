"""Look up an object by name, or refuse in a sentence that names near misses and the remedy.

Input: a State and a name that somebody gave. Output: the record, or NotFound; Conflict when the
caller read another resource version than the one that is there.
"""

from collections.abc import Mapping
from typing import TypeVar

from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.names import did_you_mean
from federation.policy.meta import Meta
from federation.policy.records import (
    ClusterRecord,
    DeploymentRecord,
    ModelRecord,
    RegionRecord,
    VersionRecord,
)
from federation.policy.state import State

T = TypeVar("T")

# What makes the missing object exist, for the second half of the refusal.
_REMEDY = {
    "Region": "Create it with: fed region create {name} --location LAT,LON",
    "Cluster": "Register it with: fed cluster register {name} --region REGION",
    "Model": "Push it with: fed model push DIRECTORY",
    "Deployment": "Create it with: fed deploy MODEL --name {name}",
    "Rollout": "Start one with: fed rollout start MODEL --to VERSION",
    "Prefetch": "Create it with: fed prefetch MODEL@VERSION --name {name}",
    "Key": "Make it with: fed key create {name}",
    "Tenant": "Create it with: fed tenant create {name}",
    "Router": "Register it with: fed router register {name}",
}


def find(kind: str, table: Mapping[str, T], name: str) -> T:
    """Return the object of that name; raises NotFound with near misses."""
    if (found := table.get(name)) is not None:
        return found
    remedy = _REMEDY.get(kind, "").format(name=name)
    raise NotFound(
        f"{kind.lower()} {name!r} is unknown.",
        hint=f"{did_you_mean(name, table)} {remedy}".strip(),
        reason=f"unknown-{kind.lower()}",
    )


def region(state: State, name: str) -> RegionRecord:
    """Return the region; raises NotFound."""
    return find("Region", state.regions, name)


def cluster(state: State, name: str) -> ClusterRecord:
    """Return the cluster; raises NotFound."""
    return find("Cluster", state.clusters, name)


def model(state: State, name: str) -> ModelRecord:
    """Return the model; raises NotFound."""
    return find("Model", state.models, name)


def deployment(state: State, name: str) -> DeploymentRecord:
    """Return the deployment; raises NotFound."""
    return find("Deployment", state.deployments, name)


def version(record: ModelRecord, number: int) -> VersionRecord:
    """Return that version of the model; raises NotFound that names the versions there are."""
    if (found := version_or_none(record, number)) is not None:
        return found
    name, known = record.meta.name, ", ".join(str(v.version) for v in record.versions)
    raise NotFound(
        f"model {name!r} has no version {number}.",
        hint=f"Its versions are: {known}." if known else f"Push one with: fed model push {name}",
        reason="unknown-version",
    )


def version_or_none(record: ModelRecord, number: int) -> VersionRecord | None:
    """Return that version of the model if there is one."""
    return next((v for v in record.versions if v.version == number), None)


def alias(record: ModelRecord, name: str) -> int:
    """Return the version that an alias of the model means; raises NotFound with near misses."""
    if name in record.spec.aliases:
        return record.spec.aliases[name]
    model_name = record.meta.name
    raise NotFound(
        f"model {model_name!r} has no alias {name!r}.",
        hint=f"{did_you_mean(name, record.spec.aliases)} "
        f"Set it with: fed model alias {model_name} {name} VERSION",
        reason="unknown-alias",
    )


def resolve(record: ModelRecord, wanted: int | str) -> int:
    """Return the version number that a number, an alias or 0 (= the newest) means.

    Raises NotFound for an alias or version that does not exist, Invalid if nothing was pushed yet.
    """
    if isinstance(wanted, str) and not wanted.isdecimal():
        return alias(record, wanted)
    if not record.versions:
        raise Invalid(
            f"model {record.meta.name!r} has no version yet.",
            hint="Push one with: fed model push DIRECTORY",
        )
    return version(record, int(wanted)).version if int(wanted) else record.versions[-1].version


def wanted_version(state: State, name: str, wanted: str) -> VersionRecord:
    """Return the version of a model that a path means by number or alias; raises NotFound."""
    found = model(state, name)
    if wanted.isdecimal() and len(wanted) > 18:
        raise NotFound(f"model {name!r} has no such version.")
    return version(found, resolve(found, wanted))


def check_expected(kind: str, name: str, meta: Meta | None, expected: int | None) -> None:
    """Raise Conflict unless the caller read the newest version (None = any, 0 = must not exist)."""
    found = meta.resource_version if meta else 0
    if expected is None or expected == found:
        return
    what = f"{kind.lower()} {name!r}"
    if meta is None:
        message = f"{what} does not exist (any more); you read its resource version {expected}."
    elif expected == 0:
        message = f"{what} exists already, at resource version {found}."
    else:
        message = (
            f"{what} changed since you read it: you read resource version {expected}, "
            f"it is now at {found}."
        )
    raise Conflict(message, hint="Read it again, then repeat your change.", reason="stale-version")
