"""Private keys, certificate signing requests, and what stands in a certificate.

Input: PEM. Output: PEM, and the few facts of a certificate that we act on. The door to
`cryptography` for agents and routers.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from federation.contract.errors import Invalid
from federation.contract.spiffe import PeerId, generation_of, parse_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a leaf certificate says."""

    id: PeerId
    generation: int
    not_before: datetime
    not_after: datetime


_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def new_key() -> str:
    """Return a new private key on the curve P-256 (PEM, PKCS 8)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def signing_request(key_pem: str) -> str:
    """Return a certificate signing request (PEM) that proves the key and claims nothing.

    Raises Invalid.
    """
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    key = _private_key(key_pem)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def sign(key_pem: str, data: bytes) -> bytes:
    """Return an ECDSA signature with SHA-256 (DER) that proves the private key; raises Invalid."""
    return _private_key(key_pem).sign(data, ec.ECDSA(hashes.SHA256()))


def belong_together(certificate_pem: str, key_pem: str) -> bool:
    """Return whether the certificate is of this private key; raises Invalid if either is broken."""
    try:
        public = x509.load_pem_x509_certificate(certificate_pem.encode()).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Invalid("this is no certificate of a federation.") from None
    return public == _private_key(key_pem).public_key()


def _private_key(key_pem: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Invalid("the private key cannot be read.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Invalid("the private key is no elliptic curve key.")
    return key


def facts_of(certificate_pem: str) -> Facts:
    """Return what the first certificate of a PEM text says; raises Invalid if it is not ours."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        serial = certificate.serial_number
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _UNREADABLE:
        raise Invalid("this is no certificate of a federation.") from None
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise Invalid("the certificate does not carry exactly one URI.")
    return Facts(
        id=parse_uri(uris[0]),
        generation=generation_of(max(serial, 0)),
        not_before=not_before,
        not_after=not_after,
    )


def trust_domain_of(root_pem: str) -> str:
    """Return the trust domain that a root names in its URI; raises Invalid."""
    try:
        certificate = x509.load_pem_x509_certificate(root_pem.encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        (uri,) = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    except _UNREADABLE:
        raise Invalid("this is no root certificate of a federation.") from None
    return uri.removeprefix("spiffe://")


def split_pem(text: str) -> tuple[str, ...]:
    """Return the certificates of a PEM text, one text each."""
    end = "-----END CERTIFICATE-----"
    return tuple(f"{part.strip()}\n{end}\n" for part in text.split(end) if part.strip())
