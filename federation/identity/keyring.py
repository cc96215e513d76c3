"""All with which the control plane proves itself and admits others, opened from its directory.

Input: the state directory and settings. Output: the authority with the phases of its roots, the
control plane's own certificate, the pepper. `federation.app` runs what keeps them fresh.

    STATE/ca/        roots with their keys (0600), their phases
    STATE/ca.pem     the roots that everyone may trust: public
    STATE/pepper     see `pepper`
"""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from federation.contract.errors import Invalid, Unavailable
from federation.identity import pepper
from federation.identity.authority import Authority
from federation.identity.own import OwnLeaf
from federation.identity.rollover import Rollover
from federation.runtime.clock import Clock
from federation.trust.credentials import Credentials
from federation.trust.keys import trust_domain_of

BUNDLE_FILE = "ca.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this control plane is. `hosts` are names and addresses by which clients dial it."""

    trust_domain: str
    name: str
    leaf_life: timedelta
    renew_grace: timedelta
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The parts, made by `open_keyring`."""

    authority: Authority
    rollover: Rollover
    own: OwnLeaf
    identity: Identity
    pepper: str = field(repr=False)

    @property
    def credentials(self) -> Credentials:
        """What the control plane's own servers show and demand."""
        return self.own.credentials


def open_keyring(state_dir: Path, identity: Identity, clock: Clock) -> Keyring:
    """Open, or on the first start make, all of it. Raises Invalid or Unavailable."""
    try:
        authority = Authority(
            state_dir / "ca",
            trust_domain=identity.trust_domain,
            clock=clock,
            leaf_life=identity.leaf_life,
        )
        rollover = Rollover(
            authority,
            directory=state_dir / "ca",
            bundle_file=state_dir / BUNDLE_FILE,
            clock=clock,
            renew_grace=identity.renew_grace,
        )
    except OSError as error:
        raise Unavailable(f"cannot use {state_dir / 'ca'}: {error.strerror}.") from None
    for root in authority.roots.values():
        if (found := trust_domain_of(root.pem)) != identity.trust_domain:
            raise Invalid(
                f"the roots in {state_dir / 'ca'} are of the trust domain {found!r}, not "
                f"{identity.trust_domain!r}.",
                hint=f"Start with --trust-domain {found}; every certificate names it.",
            )
    own = OwnLeaf(
        authority,
        name=identity.name,
        roots=rollover.bundle(),
        clock=clock,
        hosts=identity.hosts,
    )
    return Keyring(
        authority=authority,
        rollover=rollover,
        own=own,
        identity=identity,
        pepper=pepper.load_or_create(state_dir / "pepper"),
    )
