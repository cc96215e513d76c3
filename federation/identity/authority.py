"""The certificate authority of a federation: issues short-lived leaves to whom it is told to.

Input: certificate signing requests, of which only the public key counts: the identity is the
control plane's word (SPIFFE X.509-SVID). Output: certificates in PEM, and the roots that verify
them. Keys of roots never leave this directory (mode 0600).
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federation.contract.errors import Invalid, Unauthenticated
from federation.contract.spiffe import (
    PeerId,
    PeerRole,
    check_trust_domain,
    control_plane_dns_name,
    serial_number,
)
from federation.runtime.clock import Clock
from federation.runtime.files import write_atomic
from federation.trust.keys import Facts, facts_of
from federation.trust.pins import pin_of

ROOT_LIFE = timedelta(days=3650)
DEFAULT_LEAF_LIFE = timedelta(hours=24)
SKEW_CUSHION = timedelta(seconds=60)  # clocks of peers may be behind by this much
_CURVE = ec.SECP256R1
_PREFIX = "root-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A root of trust; `pem` is its certificate."""

    pem: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Root({self.pin})"

    @property
    def pin(self) -> str:
        """Return `sha256:<hex>` of the certificate (DER), by which an agent knows it."""
        return pin_of(self.pem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A leaf certificate (PEM)."""

    pem: str
    id: PeerId
    generation: int
    not_after: datetime


class Authority:
    """Signs with the newest active root. Roots lie as `<name>.crt` and `<name>.key`."""

    def __init__(
        self,
        directory: Path,
        *,
        trust_domain: str,
        clock: Clock,
        leaf_life: timedelta = DEFAULT_LEAF_LIFE,
    ) -> None:
        self.trust_domain = check_trust_domain(trust_domain)
        self.leaf_life = leaf_life
        self._directory = directory
        self._clock = clock
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        names = sorted(path.stem for path in directory.glob("*.crt"))
        self._roots = {name: self._read(name) for name in names}
        if not self._roots:
            self.add_root()
        self.signing = next(iter(self._roots))

    def __repr__(self) -> str:
        return f"Authority({self.trust_domain}, {len(self._roots)} roots, signs {self.signing})"

    @property
    def roots(self) -> dict[str, Root]:
        """The roots by name, oldest first."""
        return dict(self._roots)

    def add_root(self) -> str:
        """Make a root and return its name; it signs nothing before `signing` says so."""
        name = self._new_name()
        key = ec.generate_private_key(_CURVE())
        now = self._clock.utc()
        title = f"{self.trust_domain} {name}"[:64]  # X.520: ub-common-name
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW_CUSHION)
            .not_valid_after(now + ROOT_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.UniformResourceIdentifier(f"spiffe://{self.trust_domain}")]
                ),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        write_atomic(self._directory / f"{name}.key", _private_pem(key), mode=0o600)
        write_atomic(self._directory / f"{name}.crt", pem)
        self._roots[name] = Root(pem=pem.decode(), certificate=certificate, key=key)
        return name

    def _new_name(self) -> str:
        """A number is never given twice, also after roots were removed."""
        numbers = [int(n[len(_PREFIX) :]) for n in self._roots if n[len(_PREFIX) :].isdigit()]
        return f"{_PREFIX}{max(numbers, default=0) + 1:04d}"

    def remove_root(self, name: str) -> None:
        """Forget a root and destroy its key; the signing one cannot be removed."""
        if name == self.signing:
            raise ValueError(f"{name} signs")
        self._roots.pop(name, None)
        for suffix in (".crt", ".key"):  # a certificate without its key could not be read again
            (self._directory / f"{name}{suffix}").unlink(missing_ok=True)

    def _read(self, name: str) -> Root:
        try:
            pem = (self._directory / f"{name}.crt").read_bytes()
            key = serialization.load_pem_private_key(
                (self._directory / f"{name}.key").read_bytes(), password=None
            )
            certificate = x509.load_pem_x509_certificate(pem)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise Invalid(
                f"the root {name} in {self._directory} cannot be read: {error}.",
                hint="Restore the directory from its backup; without it every cluster joins anew.",
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Invalid(f"the key of the root {name} is no elliptic curve key.")
        return Root(pem=pem.decode(), certificate=certificate, key=key)

    def issue(
        self, csr_pem: str, id: PeerId, *, generation: int, hosts: tuple[str, ...] = ()
    ) -> Issued:
        """Return a leaf for the key of a CSR; raises Invalid if the CSR does not prove its key.

        Everything else in the CSR is ignored. `hosts` are further names or addresses of a server.
        """
        public_key = public_key_of(csr_pem)
        root, now = self._roots[self.signing], self._clock.utc()
        not_after = min(now + self.leaf_life, root.certificate.not_valid_after_utc)
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(id.uri),
            x509.DNSName(id.dns_name),
            *(_general_name(host) for host in hosts),
        ]
        if id.role is PeerRole.CONTROL_PLANE:
            names.append(x509.DNSName(control_plane_dns_name(id.trust_domain)))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(root.certificate.subject)
            .public_key(public_key)
            .serial_number(serial_number(generation, secrets.randbits(80)))
            .not_valid_before(now - SKEW_CUSHION)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .sign(root.key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        return Issued(
            pem=pem, id=id, generation=generation, not_after=certificate.not_valid_after_utc
        )

    def check_renewal(
        self, certificate_pem: str, csr_pem: str, proof: bytes, *, grace: timedelta
    ) -> Facts:
        """Return what an old certificate says; its bearer wants one for the key of a CSR.

        `proof` is an ECDSA-SHA256 signature over the bytes of the CSR (PEM) by the old key. The
        certificate may have expired by up to `grace`. Raises Invalid or Unauthenticated.
        """
        facts = facts_of(certificate_pem)
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        public_key_of(csr_pem)
        if not any(_signed_by(certificate, root) for root in self._roots.values()):
            raise Unauthenticated(
                "this certificate was not issued by this federation.",
                hint="Join anew, with a join token.",
                reason="certificate-unknown",
            )
        if facts.not_after + grace <= self._clock.utc():
            raise Unauthenticated(
                f"this certificate expired at {facts.not_after:%F %T} UTC: too long ago.",
                hint="Join anew, with a join token.",
                reason="certificate-expired",
            )
        if not _proves(proof, csr_pem.encode(), certificate):
            raise Unauthenticated(
                "the proof is not a signature of the certificate's key over the signing request.",
                reason="proof-wrong",
            )
        return facts


def _proves(proof: bytes, data: bytes, certificate: x509.Certificate) -> bool:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(proof, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _signed_by(certificate: x509.Certificate, root: Root) -> bool:
    try:
        certificate.verify_directly_issued_by(root.certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def public_key_of(csr_pem: str) -> ec.EllipticCurvePublicKey:
    """Return the key that a CSR proves to hold; raises Invalid."""
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        proven = request.is_signature_valid
        key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        raise Invalid("this is no certificate signing request in PEM.") from None
    if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVE)):
        raise Invalid("the key of the certificate signing request is not on the curve P-256.")
    if not proven:
        raise Invalid("the certificate signing request is not signed by its own key.")
    return key


def key_digest(csr_pem: str) -> str:
    """Return SHA-256 (hex) of a CSR's public key: who repeats a join shows the same key."""
    der = public_key_of(csr_pem).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
