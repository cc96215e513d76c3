"""Who this agent is: its certificate, and how it comes by one.

Input: the state directory, and where the control plane is. Output: Credentials for everything that
speaks TLS, and the Membership that joins and renews. The files lie in STATE/identity.
"""

import uuid
from dataclasses import dataclass, field
from pathlib import Path

from federation.contract.spiffe import PeerRole
from federation.runtime.backoff import Dice
from federation.runtime.clock import Clock
from federation.trust.calls import Contact
from federation.trust.credentials import Credentials
from federation.trust.enrolment import Enrolment
from federation.trust.renewal import Membership, Patience

IDENTITY_DIRECTORY = "identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity of one agent; `instance` is new in each run."""

    credentials: Credentials
    membership: Membership
    instance: str = field(default_factory=lambda: uuid.uuid4().hex)


def load_identity(
    state_dir: Path,
    cluster: str,
    contact: Contact,
    *,
    clock: Clock,
    dice: Dice,
    patience: Patience | None = None,
) -> Identity:
    """Return what lies in the state directory.

    Raises Invalid if it is broken or of another cluster, or if it is empty and there is no join
    token or pin to begin with.
    """
    credentials = Credentials(state_dir / IDENTITY_DIRECTORY)
    enrolment = Enrolment(credentials, contact, role=PeerRole.CLUSTER, name=cluster)
    membership = Membership(enrolment, clock=clock, dice=dice, patience=patience)
    membership.check()
    return Identity(credentials=credentials, membership=membership)
