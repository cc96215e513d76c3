"""Ed25519 keys that sign releases, and the check of what they signed.

Input: private keys as PEM (PKCS #8), public keys as 64 hex digits. Output: signatures, and the
verdict on an envelope. RFC 8032; `cryptography` does the work.
"""

from base64 import b64decode
from collections.abc import Collection

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from federation.contract.errors import Invalid
from federation.contract.release import Envelope, Release, pre_authentication, release_of


def new_signing_key() -> str:
    """Return a new private key as PEM."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_key(private_pem: str) -> str:
    """Return the public key that belongs to a private one, in hex; raises Invalid."""
    return _private(private_pem).public_key().public_bytes_raw().hex()


def sign_envelope(private_pem: str, envelope: Envelope) -> Envelope:
    """Return the envelope with this key's signature added; raises Invalid."""
    signature = _private(private_pem).sign(pre_authentication(envelope))
    return envelope.signed_by(public_key(private_pem), signature)


def signers(envelope: Envelope, trusted: Collection[str]) -> frozenset[str]:
    """Return which of the `trusted` public keys signed the envelope."""
    signed = pre_authentication(envelope)
    return frozenset(
        s.keyid for s in envelope.signatures if s.keyid in trusted and _good(s.keyid, s.sig, signed)
    )


def verified(envelope: Envelope, trusted: Collection[str]) -> Release:
    """Return what an envelope says if at least one of the `trusted` keys signed it; else raises
    Invalid."""
    if not signers(envelope, trusted):
        named = ", ".join(s.keyid[:16] for s in envelope.signatures) or "nobody"
        raise Invalid(f"the release is signed by none of the trusted keys, but by {named}.")
    return release_of(envelope)


def check_public_key(text: str) -> str:
    """Return `text` if it is a public key in hex; raises Invalid."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError:
        raise Invalid(f"{text[:80]!r} is no Ed25519 public key.", hint="64 hex digits.") from None
    return text.lower()


def _good(key: str, signature: str, data: bytes) -> bool:
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(b64decode(signature, validate=True), data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _private(pem: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        raise Invalid("the signing key is no private key in PEM.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Invalid("the signing key is not an Ed25519 key.", hint="fed model keygen makes one.")
    return key
