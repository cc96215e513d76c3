"""Who a peer is: SPIFFE IDs, and the generation that lets an identity be revoked.

Input: names, URIs, serial numbers. Output: checked identities. A leaf certificate carries exactly
one URI `spiffe://<trust-domain>/<role>/<name>` (SPIFFE X.509-SVID, sec. 2) and, as DNS name, the
same identity turned around: `<name>.<role>.<trust-domain>`, which clients demand of a server.
Pure functions, standard library only.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from federation.contract.errors import Invalid
from federation.contract.names import check_name

_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_URI = re.compile(r"spiffe://([a-z0-9.-]+)/([a-z-]+)/([a-z0-9-]+)")
GENERATION_BITS = 64
_NONCE_BITS = 80  # with the generation above them a serial has 144 bits; RFC 5280 allows 159


class PeerRole(StrEnum):
    """What a certificate's bearer may be."""

    CLUSTER = "cluster"  # the edge agent of the cluster of that name, and its gateway
    ROUTER = "router"
    CONTROL_PLANE = "control-plane"


@dataclass(frozen=True, slots=True, order=True)
class PeerId:
    """The identity of one process of the federation."""

    trust_domain: str
    role: PeerRole
    name: str

    def __str__(self) -> str:
        return self.uri

    @property
    def uri(self) -> str:
        """The SPIFFE ID."""
        return f"spiffe://{self.trust_domain}/{self.role.value}/{self.name}"

    @property
    def dns_name(self) -> str:
        """The name that a TLS client demands of a server with this identity."""
        return f"{self.name}.{self.role.value}.{self.trust_domain}"


def control_plane_dns_name(trust_domain: str) -> str:
    """Return the name that every control plane's certificate carries, whatever its own name is."""
    return f"{PeerRole.CONTROL_PLANE.value}.{trust_domain}"


def check_trust_domain(name: str) -> str:
    """Return `name` if it can name a trust domain; raises Invalid."""
    if not _DOMAIN.fullmatch(name) or ".." in name:
        raise Invalid(
            f"{name!r} cannot name a trust domain.",
            hint="Use lower-case letters, digits, '-' and '.', like 'inference.example.com'.",
        )
    return name


def parse_uri(uri: str) -> PeerId:
    """Return the identity that a SPIFFE ID names; raises Invalid for any other URI."""
    match = _URI.fullmatch(uri)
    if match is None or match[2] not in {role.value for role in PeerRole}:
        raise Invalid(f"{uri[:200]!r} is no identity of a federation.")
    return PeerId(check_trust_domain(match[1]), PeerRole(match[2]), check_name("peer", match[3]))


def serial_number(generation: int, nonce: int) -> int:
    """Return a certificate's serial number: the generation of its identity above 80 random bits."""
    if not 0 < generation < 1 << GENERATION_BITS:
        raise ValueError(f"generation {generation} does not fit")
    return generation << _NONCE_BITS | nonce % (1 << _NONCE_BITS)


def generation_of(serial: int) -> int:
    """Return the generation in a serial number made by `serial_number`."""
    return serial >> _NONCE_BITS
