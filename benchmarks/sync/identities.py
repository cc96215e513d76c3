"""Certificates for an origin and its agents, on disk, as if they had joined."""

from dataclasses import replace
from pathlib import Path

from federation.contract.spiffe import PeerRole
from federation.identity.authority import Authority
from federation.runtime.clock import SystemClock
from federation.trust.signing import new_signing_key, public_key
from tests.pki import credentials_for, trust_of

DOMAIN = "bench.test"


class Identities:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self.authority = Authority(folder / "ca", trust_domain=DOMAIN, clock=SystemClock())
        self.release_key = new_signing_key()
        self.roots = folder / "roots.pem"
        self.roots.write_text(trust_of(self.authority).bundle)

    def of(self, role: PeerRole, name: str) -> Path:
        folder = self._folder / name
        if not folder.exists():
            credentials = credentials_for(self.authority, role, name, directory=folder)
            trust = trust_of(self.authority, 2)
            keys = (public_key(self.release_key),)
            credentials.keep_trust(replace(trust, release_keys=keys))
        return folder
