"""The signed statement about one package: what makes it loadable at the edge.

Input: a Release, and signatures by Ed25519 keys (`federation.trust.signing`). Output: a DSSE
envelope (Dead Simple Signing Envelope 1.0, github.com/secure-systems-lab/dsse) in JSON, which the
store keeps beside the manifest.

Its rules are those of TUF (The Update Framework 1.0, section 5) as far as they concern one file of
targets: `sequence` only grows per model, `floor` is the lowest sequence that may still be loaded,
`expires` ends its use for new copies. Whoever signs says all of it.
"""

from base64 import b64decode, b64encode
from dataclasses import dataclass, replace

import msgspec

from federation.contract.errors import Invalid

PAYLOAD_TYPE = "application/vnd.inference-federation.release+json"
MAX_ENVELOPE_BYTES = 64 << 10
MAX_SIGNATURES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What is signed. `manifest` is the manifest's digest; times are Unix seconds, `expires` 0 =
    never. `sequence` orders the releases of a model (by default its creation in milliseconds)."""

    model: str
    manifest: str
    size: int
    sequence: int
    floor: int = 0
    created: int
    expires: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature, base64; `keyid` is the signer's public key in hex."""

    keyid: str
    sig: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A DSSE envelope; `payload` is base64."""

    payloadType: str = PAYLOAD_TYPE  # noqa: N815  # DSSE calls it so
    payload: str
    signatures: tuple[Signature, ...] = ()

    @property
    def body(self) -> bytes:
        """The bytes of the payload; raises Invalid."""
        try:
            return b64decode(self.payload, validate=True)
        except ValueError:
            raise Invalid("the release's payload is not base64.") from None

    def signed_by(self, keyid: str, signature: bytes) -> "Envelope":
        """Return the envelope with one more signature; it replaces an older one of that key."""
        kept = tuple(s for s in self.signatures if s.keyid != keyid)
        new = Signature(keyid=keyid, sig=b64encode(signature).decode())
        return replace(self, signatures=(*kept, new))


def seal(release: Release) -> Envelope:
    """Return an envelope that nobody has signed yet."""
    return Envelope(payload=b64encode(msgspec.json.encode(release, order="sorted")).decode())


def release_of(envelope: Envelope) -> Release:
    """Return what an envelope says, WHOEVER signed it; raises Invalid."""
    if envelope.payloadType != PAYLOAD_TYPE:
        raise Invalid(f"the release is of another type: {envelope.payloadType[:80]!r}.")
    try:
        release = msgspec.json.decode(envelope.body, type=Release)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the release is malformed: {error}.") from None
    if min(release.size, release.sequence, release.floor, release.created, release.expires) < 0:
        raise Invalid("the release is malformed: a number is negative.")
    return release


def envelope_bytes(envelope: Envelope) -> bytes:
    """Return an envelope as it is stored and sent."""
    return msgspec.json.encode(envelope, order="sorted")


def parse_envelope(data: bytes) -> Envelope:
    """Read what `envelope_bytes` wrote; raises Invalid."""
    if len(data) > MAX_ENVELOPE_BYTES:
        raise Invalid(f"the release is longer than {MAX_ENVELOPE_BYTES} bytes.")
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the release's envelope is malformed: {error}.") from None
    if len(envelope.signatures) > MAX_SIGNATURES:
        raise Invalid(f"the release has more than {MAX_SIGNATURES} signatures.")
    return envelope


def pre_authentication(envelope: Envelope) -> bytes:
    """Return the bytes that are signed: DSSE's PAE(type, body)."""
    kind, body = envelope.payloadType.encode(), envelope.body
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)
