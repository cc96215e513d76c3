"""What every process must know to decide whom it trusts, and where agents find routers.

Input: built by the control plane. Output: travels to agents and routers, who keep the newest on
disk, so that a restart without the control plane trusts neither more nor less than before.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """Certificates of `uri` whose generation is lower than `below` are refused."""

    uri: str
    below: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The roots (PEM, one certificate each) and what is revoked below them.

    A higher version replaces a lower one whole. `release_keys` (Ed25519, hex) sign releases.
    Revocations are forgotten once every certificate that they concern has expired.
    """

    version: int
    trust_domain: str
    roots: tuple[str, ...]
    revoked: tuple[Revocation, ...] = ()
    release_keys: tuple[str, ...] = ()

    def refuses(self, uri: str, generation: int) -> bool:
        """Return whether certificates of this identity and generation are revoked."""
        return any(r.uri == uri and generation < r.below for r in self.revoked)

    @property
    def bundle(self) -> str:
        """All roots as one PEM text."""
        return "".join(root.rstrip("\n") + "\n" for root in self.roots)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterAddress:
    """A router that takes reverse connections at `reverse_address`: HOST:PORT, or several with
    commas between them, where it is several processes: each needs connections of its own."""

    name: str
    reverse_address: str
