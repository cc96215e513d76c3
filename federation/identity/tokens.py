"""Bearer tokens: `fed_<kind>_<id>_<secret>`.

Input: chance from the operating system, and what a caller showed. Output: tokens that are shown
once and parsed strictly. What is kept is a hash: of keys an HMAC with the pepper, of tokens that
live an hour a SHA-256 (the secret has 256 random bits, so a slow hash would add nothing).
"""

import base64
import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from federation.contract.errors import Invalid, Unauthenticated
from federation.contract.names import check_name
from federation.runtime.files import write_atomic

SECRET_BYTES = 32


class TokenKind(StrEnum):
    """What the bearer of a token may be."""

    ADMIN = "admin"  # whoever may read the control plane's state directory; id is a label
    USER = "user"  # a person or program at the operator API; id is that of the key
    INFERENCE = "key"  # a tenant at the routers; id is that of the key
    JOIN = "join"  # lets an agent join as the cluster `id`, once
    ROUTER_JOIN = "routerjoin"  # lets a router join as the router `id`, once


_KINDS = "|".join(kind.value for kind in TokenKind)
_TOKEN = re.compile(rf"fed_({_KINDS})_([a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?)_[A-Za-z0-9_-]{{43}}")


@dataclass(frozen=True, slots=True)
class Token:
    """A parsed token: who it claims to be. `text` is the secret itself and stays out of `repr`."""

    kind: TokenKind
    id: str
    text: str

    def __repr__(self) -> str:
        return f"Token({self.kind.value} {self.id})"

    @property
    def sha256(self) -> str:
        """The hash that is kept instead of the token."""
        return sha256(self.text)


def mint(kind: TokenKind, id: str) -> str:
    """Return a new token; raises Invalid if `id` is no name."""
    return _join(kind, id, secrets.token_bytes(SECRET_BYTES))


def derive(kind: TokenKind, id: str, *, key: str, purpose: str) -> str:
    """Return the token that belongs to `key` and `purpose`: the same inputs give the same token.

    It lets a repeated call be answered with the token of the first one although only its hash was
    kept. `key` must be secret.
    """
    told = "\x00".join((kind.value, id, purpose)).encode()
    return _join(kind, id, hmac.digest(key.encode(), told, "sha256"))


def _join(kind: TokenKind, id: str, secret: bytes) -> str:
    check_name("token", id)
    return f"fed_{kind.value}_{id}_{base64.urlsafe_b64encode(secret).decode().rstrip('=')}"


def parse(text: str) -> Token:
    """Return the parts of a token; raises Unauthenticated without repeating the text."""
    match = _TOKEN.fullmatch(text)
    if not match:
        raise Unauthenticated(
            "the token is malformed.",
            hint="Give it whole, as it was printed: fed_<kind>_<id>_<secret>.",
        )
    return Token(TokenKind(match[1]), match[2], text)


def sha256(text: str) -> str:
    """Return the SHA-256 of a token in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest(pepper: str, text: str) -> str:
    """Return HMAC-SHA256 of a key's text in hex, under the control plane's pepper (hex)."""
    return hmac.digest(bytes.fromhex(pepper), text.encode(), "sha256").hex()


def matches(digest: str, kept: str) -> bool:
    """Compare two hashes in constant time; an empty `kept` matches nothing."""
    return bool(kept) and hmac.compare_digest(digest.encode(), kept.encode())


def load_or_create(path: Path, kind: TokenKind, id: str) -> Token:
    """Return the token in the file, made (mode 0600) if absent; raises Invalid if it is broken."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        text = mint(kind, id)
        write_atomic(path, f"{text}\n".encode(), mode=0o600)
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read the token file {path}: {error}.") from None
    try:
        token = parse(text)
    except Unauthenticated:
        token = None
    if token is None or token.kind is not kind:
        raise Invalid(
            f"{path} does not hold a token of kind {kind.value!r}.",
            hint="Delete the file to have a new one made.",
        )
    if path.stat().st_mode & 0o077:
        os.chmod(path, 0o600)
    return token
