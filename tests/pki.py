"""An authority and certificates for tests that speak real TLS on the loopback.

Input: a directory, a role and a name. Output: an Authority, and Credentials as a process holds them
after it has joined.
"""

from datetime import timedelta
from pathlib import Path

from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Revocation, Trust
from federation.identity.authority import Authority
from federation.runtime.clock import Clock, SystemClock
from federation.trust.credentials import Credentials
from federation.trust.keys import new_key, signing_request

TRUST_DOMAIN = "fed.test"
HOSTS = ("localhost", "127.0.0.1", "::1")


def make_authority(
    tmp_path: Path, *, clock: Clock | None = None, trust_domain: str = TRUST_DOMAIN
) -> Authority:
    """Return an authority whose roots lie in `tmp_path`/ca."""
    return Authority(tmp_path / "ca", trust_domain=trust_domain, clock=clock or SystemClock())


def trust_of(
    authority: Authority, version: int = 1, *, revoked: tuple[Revocation, ...] = ()
) -> Trust:
    """Return a Trust in all roots of an authority."""
    return Trust(
        version=version,
        trust_domain=authority.trust_domain,
        roots=tuple(root.pem for root in authority.roots.values()),
        revoked=revoked,
    )


def issue_into(
    credentials: Credentials,
    authority: Authority,
    id: PeerId,
    *,
    generation: int = 1,
    life: timedelta | None = None,
) -> None:
    """Install a new certificate of `life` (None = the authority's own) for this identity."""
    usual, authority.leaf_life = authority.leaf_life, life or authority.leaf_life
    try:
        key = new_key()
        issued = authority.issue(signing_request(key), id, generation=generation, hosts=HOSTS)
    finally:
        authority.leaf_life = usual
    credentials.install(issued.pem, key)


def credentials_for(
    authority: Authority,
    role: PeerRole,
    name: str,
    *,
    generation: int = 1,
    life: timedelta | None = None,
    directory: Path | None = None,
) -> Credentials:
    """Return credentials with a fresh certificate and trust in all roots of the authority."""
    credentials = Credentials(directory)
    credentials.keep_trust(trust_of(authority))
    id = PeerId(authority.trust_domain, role, name)
    issue_into(credentials, authority, id, generation=generation, life=life)
    return credentials
