"""The news that the certificate authority gets another root.

Input: RootPrepared, after the root was made. Output: an entry that tells who asked for it. What
happens to roots is decided in `federation.policy.roots`, and kept beside their keys.
"""

from federation.policy.events import Applied
from federation.policy.membership.events import RootPrepared
from federation.policy.state import Step


def root_prepared(step: Step, event: RootPrepared) -> Applied:
    """Write down that a root was made."""
    message = f"{event.name} was made: everyone is told of it now, later it signs."
    step.audit("Authority", event.name, "RootPrepared", message)
    return Applied(kind="Authority", name=event.name, created=True)
