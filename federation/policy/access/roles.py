"""Who may do what: one pure question, asked for every call of the operator API.

Input: a caller with the grants that it was admitted with, what it wants to do, and the State.
Output: "" if it may, else why not, in words. An object that exists must be within the grant as it
is now, and so must be what it shall become. A cluster's own agent has no role: it may fetch the
packages that its cluster is assigned, and nothing else.
"""

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from federation.contract.access import Grant, Role
from federation.contract.spiffe import PeerId, PeerRole
from federation.policy.rollouts.records import RolloutRecord
from federation.policy.state import State


class Verb(StrEnum):
    """What can be done to an object."""

    READ = "read"
    WRITE = "write"  # create or change
    DELETE = "delete"
    PUSH = "push"  # add a version to a model
    REGISTER = "register"  # hand out the right to join
    SCHEDULE = "schedule"  # cordon, uncordon, drain
    ACCEPT = "accept"
    REVOKE = "revoke"
    ROTATE = "rotate"
    STOP = "stop"  # pause a rollout, or send it back
    VERIFY = "verify"  # read all bytes of a version and check them


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls: `name` is for the audit ("user/alice"); a process of ours has `peer` instead of
    grants."""

    name: str
    grants: tuple[Grant, ...] = ()
    peer: PeerId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a caller wants. `regions` and `models` are those of the object as it shall become.

    The name of a kind "ModelVersion" is `model/number`. A "Chunk" is what packages are made of, a
    "Pack" an object that holds many of them, the "Store" where all packages lie.
    """

    verb: Verb
    kind: str
    name: str = ""
    regions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.name:
            return f"{self.verb.value} {self.kind.lower()} {self.name!r}"
        return f"{self.verb.value} {_ALL_OF.get(self.kind, f'{self.kind.lower()}s')}"


_ALL_OF = {
    "Audit": "the audit log",
    "Authority": "the certificate authority",
    "Store": "the artifact store",
    "Prefetch": "prefetches",
}
_SECRET_KINDS = frozenset({"Audit"})  # who was refused what is nobody's business but the admins'

# What each role may do beyond reading. ADMIN may do all.
_MAY: dict[Role, frozenset[tuple[Verb, str]]] = {
    Role.VIEWER: frozenset(),
    Role.MODEL_OWNER: frozenset(
        {
            (Verb.WRITE, "Chunk"),
            (Verb.PUSH, "Model"),
            (Verb.VERIFY, "Model"),
            (Verb.WRITE, "Model"),
            (Verb.DELETE, "Model"),
            (Verb.WRITE, "Deployment"),
            (Verb.DELETE, "Deployment"),
            (Verb.WRITE, "Rollout"),
            (Verb.STOP, "Rollout"),
            (Verb.DELETE, "Rollout"),
            (Verb.WRITE, "Prefetch"),
            (Verb.DELETE, "Prefetch"),
        }
    ),
    Role.OPERATOR: frozenset(
        {
            (Verb.REGISTER, "Cluster"),
            (Verb.WRITE, "Cluster"),
            (Verb.SCHEDULE, "Cluster"),
            (Verb.ACCEPT, "Cluster"),
            (Verb.REVOKE, "Cluster"),
            (Verb.DELETE, "Cluster"),
            (Verb.STOP, "Rollout"),
            (Verb.WRITE, "Region"),
            (Verb.DELETE, "Region"),
        }
    ),
}


def refusal(caller: Caller, action: Action, state: State) -> str:
    """Return "" if the caller may do this now, else why not, as a sentence."""
    if caller.peer is not None:
        return _refusal_of_peer(caller.peer, action, state)
    fitting = [grant for grant in caller.grants if _role_may(grant.role, action)]
    if not fitting:
        return f"{caller.name} may not {action}: that needs {_needed(action)}."
    foreign = _foreign_region(fitting, action, state) or _foreign_model(fitting, action, state)
    return f"{caller.name} may not {action}: {foreign}." if foreign else ""


def _role_may(role: Role, action: Action) -> bool:
    if role is Role.ADMIN:
        return True
    if action.verb is Verb.READ:
        return action.kind not in _SECRET_KINDS
    return (action.verb, action.kind) in _MAY[role]


def _needed(action: Action) -> str:
    roles = [role.value for role in Role if _role_may(role, action)]
    return f"the role {' or '.join(roles)}"


def _foreign_region(grants: list[Grant], action: Action, state: State) -> str:
    """Return in words which region is outside of all these grants, or ""."""
    if action.verb is Verb.READ or any(_unlimited_in_regions(grant) for grant in grants):
        return ""
    mine = {region for grant in grants for region in grant.regions}
    for region in _regions(action, state):
        if region not in mine:
            return f"region {region!r} is not among its regions ({', '.join(sorted(mine))})"
    return ""


def _unlimited_in_regions(grant: Grant) -> bool:
    return grant.role is not Role.OPERATOR or not grant.regions


def _regions(action: Action, state: State) -> tuple[str, ...]:
    """Return the regions that the action touches: as the object is, and as it shall be."""
    if action.kind == "Region":
        return (action.name,)
    if action.kind == "Rollout":
        rollout = _rollout(action.name, state)
        return _regions_of(rollout, state) if rollout else ()
    held = state.clusters.get(action.name) if action.kind == "Cluster" else None
    return (*((held.spec.region,) if held else ()), *action.regions)


def _foreign_model(grants: list[Grant], action: Action, state: State) -> str:
    """Return in words which model is outside of all these grants, or ""."""
    if action.verb is Verb.READ or any(_unlimited_in_models(grant) for grant in grants):
        return ""
    mine = sorted({pattern for grant in grants for pattern in grant.models})
    for model in _models(action, state):
        if not any(fnmatchcase(model, pattern) for pattern in mine):
            return f"model {model!r} is not among its models ({', '.join(mine)})"
    return ""


def _unlimited_in_models(grant: Grant) -> bool:
    return grant.role is not Role.MODEL_OWNER or not grant.models


def _models(action: Action, state: State) -> tuple[str, ...]:
    """Return the models that the action touches: as the object is, and as it shall be."""
    if action.kind == "Model":
        return (action.name, *action.models)
    deployed = state.deployments.get(action.name) if action.kind == "Deployment" else None
    staged = state.prefetches.get(action.name) if action.kind == "Prefetch" else None
    if action.kind == "Rollout" and action.name:
        rollout = _rollout(action.name, state)
        new = (action.name,) if not action.models else ()  # then it is the name of a model
        return (*((rollout.spec.model,) if rollout else new), *action.models)
    held = deployed or staged
    return (*((held.spec.model,) if held else ()), *action.models)


def _rollout(name: str, state: State) -> RolloutRecord | None:
    """Return the rollout of that name, else the one that goes on for the model of that name."""
    going = (r for r in state.rollouts.values() if r.spec.model == name and not r.over)
    return state.rollouts.get(name) or next(going, None)


def _regions_of(rollout: RolloutRecord, state: State) -> tuple[str, ...]:
    """Return all regions that a rollout goes through."""
    names = (name for wave in rollout.waves for name in wave.clusters)
    clusters = (state.clusters.get(name) for name in names)
    named = {region for wave in rollout.waves for region in wave.regions}
    return tuple(sorted(named | {each.spec.region for each in clusters if each}))


# ------------------------------------------------------------ peers


def _refusal_of_peer(peer: PeerId, action: Action, state: State) -> str:
    if peer.role is not PeerRole.CLUSTER or action.verb is not Verb.READ:
        return f"{peer.role.value} {peer.name!r} may not {action}."
    if action.kind != "ModelVersion":
        return f"{peer.role.value} {peer.name!r} may not {action}: it may fetch packages only."
    if _is_assigned(peer.name, action, state):
        return ""
    return (
        f"cluster {peer.name!r} may not {action}: it is no part of a version that is assigned to "
        "this cluster."
    )


def _is_assigned(cluster: str, action: Action, state: State) -> bool:
    record = state.clusters.get(cluster)
    assigned = record.assignment.versions if record else ()
    return any(action.name == f"{each.model}/{each.version}" for each in assigned)
