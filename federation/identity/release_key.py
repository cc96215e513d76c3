"""The federation's release key: with it the control plane signs what its agents may load.

Input: a folder in the state directory, filled at the first start. Output: signatures, and the
public keys that agents trust.

    STATE/release/key.pem    the private key (Ed25519, PKCS #8, mode 0600)
    STATE/release/trusted    public keys (hex), one a line, `#` begins a comment: those that signed
                             before, and the present one

To change the key: put another one in place of `key.pem` (`fed model keygen FILE` makes one), or
delete it, and restart. The old public key stays in `trusted`, so that what it signed stays good,
and releases get the new signature when they are read. Take its line out, and restart, to end that:
soon if the old key was stolen, after some days if not.
"""

from dataclasses import dataclass, field
from pathlib import Path

from federation.contract.errors import Invalid, Unavailable
from federation.contract.release import Envelope
from federation.runtime.files import write_atomic
from federation.trust.signing import (
    check_public_key,
    new_signing_key,
    public_key,
    sign_envelope,
    signers,
)

FOLDER, KEY_FILE, TRUSTED_FILE = "release", "key.pem", "trusted"


@dataclass(frozen=True, slots=True)
class ReleaseKey:
    """The key that signs, and `trusted`: all public keys (hex), the present one first."""

    trusted: tuple[str, ...]
    _private_pem: str = field(repr=False)

    @property
    def id(self) -> str:
        """The public key, in hex."""
        return self.trusted[0]

    def sign(self, envelope: Envelope) -> Envelope:
        """Return the envelope with the federation's signature added."""
        return sign_envelope(self._private_pem, envelope)

    def renewed(self, envelope: Envelope) -> Envelope:
        """Return the envelope signed by the present key if a former one had signed it; an envelope
        that the federation never signed comes back as it is."""
        by = signers(envelope, self.trusted)
        return self.sign(envelope) if by and self.id not in by else envelope


def open_release_key(state_dir: Path) -> ReleaseKey:
    """Read the key, or make one; notes a key that is new among the trusted ones.

    Raises Invalid or Unavailable.
    """
    folder = state_dir / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        private = _load_or_create(folder / KEY_FILE)
        own = public_key(private)
        known = _read_trusted(folder / TRUSTED_FILE)
        if own not in known:
            _note(folder / TRUSTED_FILE, own)
    except OSError as error:
        raise Unavailable(f"cannot use the release key in {folder}: {error.strerror}.") from None
    return ReleaseKey((own, *(key for key in known if key != own)), private)


def _load_or_create(path: Path) -> str:
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        text = new_signing_key()
        write_atomic(path, text.encode(), mode=0o600)
    except UnicodeDecodeError:
        raise Invalid(f"{path} does not hold a key in PEM.") from None
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return text


def _read_trusted(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return ()
    words = [line.partition("#")[0].strip() for line in lines]
    return tuple(dict.fromkeys(check_public_key(word) for word in words if word))


def _note(path: Path, key: str) -> None:
    held = path.read_text("utf-8") if path.exists() else ""
    if held and not held.endswith("\n"):
        held += "\n"
    write_atomic(path, f"{held}{key}\n".encode())
