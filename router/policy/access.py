"""Whose request this is, and what its tenant may ask for.

Input: the tenants and keys of a snapshot, and the text of a key that a client sent. Output: a
Caller, or Unauthenticated with the remedy. A key's text is never kept: what is compared, in
constant time, is its HMAC under the federation's pepper.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import translate

from federation.contract.access import Access, ApiKey, Tenant
from federation.contract.errors import PermissionDenied, Unauthenticated
from federation.contract.names import split_reference

PREFIX = "fed_key_"
LONGEST_KEY = 200  # characters; what is longer is no key and is not hashed
ANONYMOUS = "anonymous"
_HOW = "Send it as `Authorization: Bearer fed_key_...` or as `x-api-key: fed_key_...`."
_MAKE = "An operator makes one with: fed tenant create NAME, then fed key create KEY --tenant NAME"


class Caller:
    """A tenant's rights, ready to be asked. One per tenant and table; `repr` shows no secret."""

    __slots__ = ("_patterns", "regions", "tenant")

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.regions = frozenset(tenant.residency)  # empty = anywhere
        self._patterns = [re.compile(translate(pattern)) for pattern in tenant.models]

    def __repr__(self) -> str:
        return f"Caller({self.tenant.name})"

    def may_use(self, model: str) -> bool:
        """Return whether the tenant may use a model of that name, whatever its version."""
        return not self._patterns or any(p.match(model) for p in self._patterns)

    def check_model(self, reference: str) -> None:
        """Raise PermissionDenied unless the tenant may use the model of a reference.

        It tells nothing about whether there is such a model.
        """
        model, _ = split_reference(reference)
        if not self.may_use(model):
            raise PermissionDenied(
                f"The key of tenant {self.tenant.name!r} may not use model {model!r}.",
                hint=f"It may use: {', '.join(self.tenant.models)}.",
                reason="model-not-allowed",
            )


EVERYONE = Caller(Tenant(name=ANONYMOUS))  # without a key, where the operator lets those in


@dataclass(frozen=True, slots=True, repr=False)
class AccessTable:
    """The keys of a snapshot, by id."""

    pepper: bytes = b""
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    callers: Mapping[str, Caller] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"AccessTable(tenants={len(self.callers)}, keys={len(self.keys)})"

    def authenticate(self, text: str, now: datetime) -> Caller:
        """Return whose key this is; raises Unauthenticated, never repeating the key."""
        if not self.keys:
            raise Unauthenticated("This router knows no API key yet.", hint=_MAKE, reason="no-keys")
        id, separator, _ = text.removeprefix(PREFIX).partition("_")
        if not (text.startswith(PREFIX) and separator and len(text) <= LONGEST_KEY):
            raise Unauthenticated(
                "This is no API key of the inference endpoint.",
                hint="It is the whole text that `fed key create` printed: fed_key_<id>_<secret>.",
                reason="malformed-key",
            )
        key = self.keys.get(id)
        found = hmac.digest(self.pepper, text.encode("utf-8", "surrogatepass"), "sha256").hex()
        # An unknown id takes as long as a wrong secret, and gets the same answer.
        if not hmac.compare_digest(found, key.digest if key else "0" * 64) or key is None:
            raise Unauthenticated(
                "This API key is not valid here.", hint=_MAKE + ".", reason="unknown-key"
            )
        if key.expires_at is not None and key.expires_at <= now:
            raise Unauthenticated(
                f"API key {id!r} expired at {key.expires_at:%Y-%m-%d %H:%M:%S} UTC.",
                hint=f"An operator gives it a new text with: fed key rotate {id} --expires 90d.",
                reason="expired-key",
            )
        return self.callers[key.tenant]


def missing_key(table: AccessTable) -> Unauthenticated:
    """Return the refusal of a request that shows no key."""
    hint = _HOW if table.keys else _MAKE + "."
    return Unauthenticated("This endpoint needs an API key.", hint=hint, reason="missing-key")


def build(access: Access) -> AccessTable:
    """Index what a snapshot says. Keys that could never be valid are left out: without a known
    tenant, without a digest, or under a pepper that is none."""
    try:
        pepper = bytes.fromhex(access.pepper)
    except ValueError:
        pepper = b""
    callers = {tenant.name: Caller(tenant) for tenant in access.tenants}
    keys = {key.id: key for key in access.keys if key.tenant in callers and len(key.digest) == 64}
    return AccessTable(pepper=pepper, keys=keys if pepper else {}, callers=callers)
