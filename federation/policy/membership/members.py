"""What clusters and routers have in common as members of the federation.

Input: a State, a role and a name, and the generation in a certificate. Output: the record, its
identity, and whether who shows that certificate belongs to it now.
"""

from federation.contract.errors import Conflict, Invalid, Unauthenticated
from federation.contract.spiffe import PeerId, PeerRole
from federation.policy import lookup
from federation.policy.events import CloseAgent
from federation.policy.membership.events import CloseRouter
from federation.policy.membership.records import Membership, RouterRecord
from federation.policy.records import ClusterRecord
from federation.policy.state import State, Step

Member = ClusterRecord | RouterRecord
KINDS: dict[PeerRole, str] = {PeerRole.CLUSTER: "Cluster", PeerRole.ROUTER: "Router"}


def find(state: State, role: PeerRole, name: str) -> Member:
    """Return the cluster or router of that name; raises NotFound."""
    if role is PeerRole.CLUSTER:
        return lookup.cluster(state, name)
    return lookup.find(kind_of(role), state.registered_routers, name)


def find_or_none(state: State, role: PeerRole, name: str) -> Member | None:
    """Return the cluster or router of that name if there is one."""
    table: dict[str, Member] = state.table(kind_of(role))
    return table.get(name)


def kind_of(role: PeerRole) -> str:
    """Return the kind of resource that a role is; raises Invalid for a control plane."""
    if role not in KINDS:
        raise Invalid(f"a {role.value} is no member that joins.")
    return KINDS[role]


def uri_of(state: State, role: PeerRole, name: str) -> str:
    """Return the identity of a member."""
    return PeerId(state.trust_domain, role, name).uri


def title(role: PeerRole, name: str) -> str:
    """Return how a member is called in sentences: "cluster 'eu'"."""
    return f"{role.value} {name!r}"


def rejoin_hint(role: PeerRole, name: str) -> str:
    """Return what lets a member join anew."""
    return f"Let it join anew with: fed {role.value} register {name} --rejoin"


def check_member(membership: Membership, role: PeerRole, name: str, generation: int) -> None:
    """Raise unless a certificate of this generation belongs to a valid membership.

    Unauthenticated: revoked, replaced by a newer join, or never issued. Conflict: it still waits
    for an operator.
    """
    what, hint = title(role, name), rejoin_hint(role, name)
    if membership.revoked:
        raise Unauthenticated(
            f"the membership of {what} was revoked.", hint=hint, reason="certificate-revoked"
        )
    if generation != membership.generation or not generation:
        raise Unauthenticated(
            f"this certificate of {what} belongs to an earlier join of it.",
            hint=hint,
            reason="certificate-replaced",
        )
    if not membership.accepted:
        raise Conflict(
            f"{what} waits for an operator to accept it.",
            hint=f"Accept it with: fed {role.value} accept {name}",
            reason="awaiting-acceptance",
        )


def end_streams(step: Step, record: Member, reason: str) -> None:
    """Have the streams that were opened with certificates up to the current one end."""
    name = record.meta.name
    if isinstance(record, ClusterRecord):
        step.emit(CloseAgent(cluster=name, epoch=record.epoch, reason=reason))
    else:
        generation = record.membership.generation
        step.emit(CloseRouter(name=name, generation=generation, reason=reason))
