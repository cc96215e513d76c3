"""What agents and routers are told about memberships: who is revoked, where routers are.

Input: a State. Output: the parts of Trust and RouterAddresses that follow from it; the control loop
adds the roots and numbers them.
"""

from federation.contract.trust import Revocation, RouterAddress
from federation.policy.state import State


def revocations(state: State) -> tuple[Revocation, ...]:
    """Return all revocations in force, by URI."""
    return tuple(
        Revocation(uri=uri, below=record.below) for uri, record in sorted(state.revocations.items())
    )


def router_addresses(state: State) -> tuple[RouterAddress, ...]:
    """Return the routers that take reverse connections, by name.

    They are remembered: agents keep their connections to a router that is out of contact with the
    control plane, and through a restart of it.
    """
    return tuple(
        RouterAddress(name=name, reverse_address=record.reverse_address)
        for name, record in sorted(state.registered_routers.items())
        if record.membership.valid and record.reverse_address
    )
