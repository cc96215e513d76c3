"""Which versions of a model a cluster shall have, and why not, in words.

Input: a Wish (a deployment with its versions looked up) and a cluster's record. Output: the
versions to assign there. `settle` applies it to the State.

Adding is careful, removing is more careful. A version is added only where it fits. A version that
is no longer wanted goes only after its successor is warm, so that there is never a gap; one that
may not run there any more goes at once. Nothing ever goes because contact was lost.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from federation.contract.capacity import Resources
from federation.contract.resources import ClusterSpec, DeploymentSpec, PrefetchSpec
from federation.contract.types import AssignedVersion, EngineKind, Runtime, Scheduling, Urgency
from federation.policy import lookup
from federation.policy.records import (
    ClusterRecord,
    DeploymentRecord,
    ModelRecord,
    VersionRecord,
)
from federation.policy.standing import has_bytes, is_warm, room_bytes, serving_versions

RUNTIMES: dict[EngineKind, frozenset[Runtime]] = {
    EngineKind.TRITON: frozenset({Runtime.ONNX, Runtime.PYTHON, Runtime.TRITON}),
    EngineKind.RAY_SERVE: frozenset({Runtime.ONNX, Runtime.PYTHON, Runtime.RAY_SERVE}),
    EngineKind.STATIC: frozenset(),
    EngineKind.UNKNOWN: frozenset(),
}


class Fit(StrEnum):
    """Whether a version may be at a cluster."""

    FITS = "fits"  # may be given to it
    KEEPS = "keeps"  # stays if it is there, is not given anew
    BARRED = "barred"  # must not be there


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A fit and, unless it FITS, the reason in words that complete "cluster X cannot: ..."."""

    fit: Fit
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A deployment with its versions looked up. `wanted` holds the target and the pinned ones;
    `urgency` is that of the target."""

    spec: DeploymentSpec
    target: int
    urgency: Urgency = Urgency.NORMAL
    wanted: Mapping[int, VersionRecord]
    versions: Mapping[int, VersionRecord]  # all of the model

    def assigned(self, version: int) -> AssignedVersion:
        """Return what a cluster is told about one of the wanted versions."""
        return AssignedVersion(
            model=self.spec.model,
            version=version,
            digest=self.wanted[version].digest,
            replicas=self.spec.replicas,
            needs=self.needs(version),
        )

    def needs(self, version: int) -> Resources:
        """Return what a replica of one of the wanted versions needs."""
        return self.spec.resources or self.wanted[version].package.resources


def wish_of(deployment: DeploymentRecord, model: ModelRecord) -> Wish:
    """Look up the versions that a deployment names; raises NotFound or Invalid if one is gone."""
    spec = deployment.spec
    target = lookup.resolve(model, spec.version)
    numbers = sorted({target, *spec.pinned_versions})
    return Wish(
        spec=spec,
        target=target,
        urgency=deployment.urgency,
        wanted={number: lookup.version(model, number) for number in numbers},
        versions={v.version: v for v in model.versions},
    )


def not_selected(spec: DeploymentSpec | PrefetchSpec, cluster: ClusterSpec) -> str:
    """Return why a wish does not choose this cluster, in words; empty if it does."""
    if spec.regions and cluster.region not in spec.regions:
        return f"its region {cluster.region!r} is not one of {', '.join(spec.regions)}"
    residency = spec.residency if isinstance(spec, DeploymentSpec) else ()
    if residency and cluster.region not in residency:
        return f"its region {cluster.region!r} is outside of the residency"
    for key, value in spec.cluster_labels.items():
        if cluster.labels.get(key) != value:
            return f"its label {key!r} is not {value!r}"
    return ""


def judge(cluster: ClusterRecord, version: VersionRecord, spec: DeploymentSpec) -> Verdict:
    """Decide whether a version may be at a cluster that the deployment selects."""
    if reason := _barred(cluster, version):
        return Verdict(fit=Fit.BARRED, reason=reason)
    needs = spec.resources or version.package.resources
    if reason := _not_now(cluster, version) or _lacks_gpus(cluster, needs, spec.replicas):
        return Verdict(fit=Fit.KEEPS, reason=reason)
    return Verdict(fit=Fit.FITS)


def judge_staging(cluster: ClusterRecord, version: VersionRecord) -> Verdict:
    """Decide whether the bytes of a version may lie ready at a cluster; GPUs do not count."""
    if reason := _barred(cluster, version):
        return Verdict(fit=Fit.BARRED, reason=reason)
    if reason := _not_now(cluster, version):
        return Verdict(fit=Fit.KEEPS, reason=reason)
    return Verdict(fit=Fit.FITS)


def _barred(cluster: ClusterRecord, version: VersionRecord) -> str:
    package = version.package
    if (version.carries_code or package.carries_code) and not cluster.spec.allow_code:
        return (
            f"version {version.version} carries code (runtime {package.runtime}), which this "
            "cluster does not allow; set allow_code in its spec to allow it"
        )
    engine = cluster.last.engine if cluster.last else EngineKind.UNKNOWN
    if engine is EngineKind.STATIC:
        return "its engine is static: the agent only shows what someone else loads"
    if engine is not EngineKind.UNKNOWN and package.runtime not in RUNTIMES[engine]:
        return f"its engine {engine} cannot run packages of runtime {package.runtime}"
    return ""


def _not_now(cluster: ClusterRecord, version: VersionRecord) -> str:
    if not cluster.membership.valid:
        return "its agent has not joined yet"
    if cluster.last is None or cluster.last.engine is EngineKind.UNKNOWN:
        return "its agent has not told which engine it has"
    if cluster.scheduling is not Scheduling.ACTIVE:
        return f"it is {cluster.scheduling}: it gets nothing new"
    room = room_bytes(cluster)
    if room is not None and version.size > room and not has_bytes(cluster, version):
        return (
            f"version {version.version} needs {_gib(version.size)} of disk and packages may take "
            f"{_gib(room)} there"
        )
    return ""


def _gib(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"


def _lacks_gpus(cluster: ClusterRecord, needs: Resources, replicas: int) -> str:
    devices = cluster.last.capacity.devices if cluster.last else ()
    fitting = sum(
        device.healthy and (not device.memory_mib or device.memory_mib >= needs.memory_mib)
        for device in devices
    )
    if needs.gpus * replicas > fitting:
        memory = f" with {needs.memory_mib} MiB" if needs.memory_mib else ""
        return f"it needs {needs.gpus * replicas} healthy GPUs{memory} and has {fitting}"
    return ""


def place(
    wish: Wish, cluster: ClusterRecord, *, up_to_date: bool, warm_elsewhere: Collection[int]
) -> tuple[AssignedVersion, ...]:
    """Return the versions of the wish's model that the cluster shall serve, ordered by number.

    `up_to_date`: its newest report is about its newest assignment. `warm_elsewhere`: the versions
    that are warm at another selected cluster which is in contact.
    """
    current = {v.version: v for v in serving_versions(cluster, wish.spec.model)}
    selected = not not_selected(wish.spec, cluster.spec)
    result: dict[int, AssignedVersion] = {}
    for number, record in wish.wanted.items():
        fit = judge(cluster, record, wish.spec).fit
        if selected and fit is Fit.FITS:
            result[number] = _kept_urgent(wish.assigned(number), current.get(number))
        elif selected and fit is Fit.KEEPS and number in current:
            result[number] = current[number]
    here = result.get(wish.target)
    target_is_warm_here = up_to_date and here is not None and is_warm(cluster, here)
    for number in current.keys() - result.keys():
        if _is_barred(wish, cluster, number):
            continue
        if selected and not _is_barred(wish, cluster, wish.target):
            may_go = target_is_warm_here
        else:
            may_go = (number if number in wish.wanted else wish.target) in warm_elsewhere
        if not may_go or cluster.scheduling is Scheduling.DRAINING:
            result[number] = current[number]
    _make_urgent(wish, result, current)
    return tuple(result[number] for number in sorted(result))


def _kept_urgent(wanted: AssignedVersion, held: AssignedVersion | None) -> AssignedVersion:
    """A version that is there already stays as urgent as it was: no news without a reason."""
    same = held is not None and held.digest == wanted.digest
    return replace(wanted, urgency=held.urgency) if same and held else wanted


def _make_urgent(
    wish: Wish, result: dict[int, AssignedVersion], current: Mapping[int, AssignedVersion]
) -> None:
    """Where another version of the model is, the way back to the target must not wait."""
    here = result.get(wish.target)
    others = (current.keys() | result.keys()) - {wish.target}
    if here is not None and others and wish.urgency is Urgency.ROLLBACK:
        result[wish.target] = replace(here, urgency=Urgency.ROLLBACK)


def _is_barred(wish: Wish, cluster: ClusterRecord, number: int) -> bool:
    record = wish.versions.get(number)
    return record is None or judge(cluster, record, wish.spec).fit is Fit.BARRED


def reasons(wish: Wish, cluster: ClusterRecord) -> tuple[str, ...]:
    """Return why a selected cluster does not get versions that the deployment wants, in words."""
    has = {v.version for v in serving_versions(cluster, wish.spec.model)}
    verdicts = (
        judge(cluster, record, wish.spec)
        for number, record in wish.wanted.items()
        if number not in has
    )
    return tuple(dict.fromkeys(v.reason for v in verdicts if v.reason))
