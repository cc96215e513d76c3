"""How much each tenant may ask of this router: requests and tokens per minute, requests at once.

Input: `proxy` asks before a request goes on, and tells afterwards how many tokens it took. Output:
a Hold, or OverQuota with the time after which another try makes sense. Leaving the Hold is the one
release path. Buckets are full at first, hold ten seconds' worth (at least one) and fill at the
limit's pace, so that in any time no more than limit x time + bucket is let in. Tokens are known
only afterwards: what an answer took beyond the estimate is owed, and holds up the next requests.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from federation.contract.access import Tenant
from federation.contract.errors import Exhausted

BURST_S = 10.0
LONGEST_WAIT_S = 120
_BUSY_WAIT_S = 1
_NEARLY = 1e-9  # of a token
_FIELDS = (
    b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %%d\r\n"
    b"x-ratelimit-reset-%b: %%d.%%ds\r\n"
)


class OverQuota(Exhausted):
    """A tenant's limit is reached; `retry_after_s` tells when to try again."""

    reason = "over-quota"

    def __init__(self, message: str, *, retry_after_s: float, reason: str, hold: "Hold") -> None:
        self.retry_after_s = max(1, min(math.ceil(retry_after_s), LONGEST_WAIT_S))
        hint = f"Try again in {self.retry_after_s} s, or ask the operator for a higher limit."
        super().__init__(message, hint=hint, reason=reason)
        self.hold = hold


class Bucket:
    """A token bucket. It may be overdrawn: then it owes, and fills up from below zero."""

    __slots__ = ("_fields", "_left", "_tenths", "_told", "at_s", "capacity", "level", "per_s")

    def __init__(self, per_minute: float, now_s: float, of: bytes = b"requests") -> None:
        """Begin with a full bucket; `of` is what it counts, as clients are told."""
        self._fields = _FIELDS % (of, per_minute, of, of)
        self._left = self._tenths = -1  # what clients were told last, and how
        self._told = b""
        self.per_s = per_minute / 60
        self.capacity = max(1.0, self.per_s * BURST_S)
        self.level = self.capacity
        self.at_s = now_s

    def __repr__(self) -> str:
        return f"Bucket({self.level:.1f}/{self.capacity:.1f}, {self.per_s:.2f}/s)"

    def fill(self, now_s: float) -> None:
        """Let time pass; a clock that goes back changes nothing."""
        if now_s > self.at_s:
            level = self.level + (now_s - self.at_s) * self.per_s
            self.level = level if level < self.capacity else self.capacity
            self.at_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """Return how long until `amount` may be taken, 0 = now; more than fits needs a full one."""
        self.fill(now_s)
        missing = (amount if amount < self.capacity else self.capacity) - self.level
        return missing / self.per_s if missing > _NEARLY else 0.0

    def take(self, amount: float) -> None:
        """Take what `wait_s` allowed, or what was used; a negative amount gives back."""
        self.level = min(self.capacity, self.level - amount)

    def fields(self, now_s: float) -> bytes:
        """Return what a client may know, as header lines: the limit, what is left of it, when all
        of it is back."""
        if now_s > self.at_s:
            self.fill(now_s)
        level = self.level
        left = int(level + _NEARLY) if level > 0.0 else 0
        tenths = int((self.capacity - level) / self.per_s * 10.0 + 0.5)
        if left != self._left or tenths != self._tenths:
            self._left, self._tenths = left, tenths
            self._told = self._fields % (left, tenths // 10, tenths % 10)
        return self._told

    def adjust(self, per_minute: float, now_s: float, of: bytes = b"requests") -> None:
        """Go on under another limit; what is owed stays owed."""
        self._fields, self._left = _FIELDS % (of, per_minute, of, of), -1
        if per_minute / 60 != self.per_s:
            self.fill(now_s)
            self.per_s = per_minute / 60
            self.capacity = max(1.0, self.per_s * BURST_S)
            self.level = min(self.level, self.capacity)


@dataclass(slots=True)
class Account:
    """What one tenant has taken; all tenants without limits share one."""

    requests: Bucket | None = None
    tokens: Bucket | None = None
    in_flight: int = 0
    most: int = 0  # at once; 0 = any number
    tenant: Tenant | None = None  # whose limits these are
    share: float = 1.0  # of these limits, what may be handed out here

    def follow(self, tenant: Tenant, now_s: float) -> None:
        """Take the tenant's limits as they are now."""
        if tenant is self.tenant:
            return
        self.tenant = tenant
        share = self.share
        self.most = math.ceil(tenant.max_concurrent * share)
        per_minute = tenant.requests_per_minute * share
        self.requests = _bucket(self.requests, b"requests", per_minute, now_s)
        self.tokens = _bucket(self.tokens, b"tokens", tenant.tokens_per_minute * share, now_s)

    def take(self, now_s: float) -> bool:
        """Take one request of the limits and a place; False, and nothing taken, where one of them
        is reached. `give_back` ends it, or leaving a Hold."""
        if 0 < self.most <= self.in_flight:
            return False
        bucket = self.requests
        if bucket is not None:
            if now_s > bucket.at_s:
                bucket.fill(now_s)
            if bucket.level < 1.0 - _NEARLY:
                return False
            bucket.level -= 1.0
        self.in_flight += 1
        return True

    def give_back(self) -> None:
        """Give back the place that `take` took, once."""
        self.in_flight -= 1

    def fields(self, now_s: float) -> bytes:
        """Return what the client may know of its limits, as header lines; only those there are."""
        requests, tokens = self.requests, self.tokens
        told = b"" if requests is None else requests.fields(now_s)
        return told if tokens is None else told + tokens.fields(now_s)


def _bucket(bucket: Bucket | None, of: bytes, per_minute: float, now_s: float) -> Bucket | None:
    if per_minute <= 0:
        return None
    if bucket is None:
        return Bucket(per_minute, now_s, of)
    bucket.adjust(per_minute, now_s, of)
    return bucket


@dataclass(slots=True)
class Hold:
    """One request's share. Set `used` to the tokens that it took before leaving."""

    tenant: Tenant
    _account: Account
    used: int = 0
    _estimate: int = field(default=0, init=False)

    def __repr__(self) -> str:
        return f"Hold({self.tenant.name}, estimate={self._estimate}, used={self.used})"

    def expect_tokens(self, amount: int, now_s: float) -> None:
        """Take an estimate of the tokens, once; raises OverQuota while there are too few."""
        bucket = self._account.tokens
        if bucket is None:
            return
        if wait_s := bucket.wait_s(max(amount, 1), now_s):
            raise OverQuota(
                f"Tenant {self.tenant.name!r} has used its {self.tenant.tokens_per_minute} tokens "
                "a minute at this router.",
                retry_after_s=wait_s,
                reason="tokens-per-minute",
                hold=self,
            )
        self._estimate = amount
        bucket.take(amount)

    def leave(self) -> None:
        """Give the place back, once."""
        account = self._account
        account.in_flight -= 1
        if account.tokens is not None:
            self.settle()

    def settle(self) -> None:
        """Replace the estimate by what was used; a second call changes nothing."""
        if self._account.tokens is not None:
            self._account.tokens.take(self.used - self._estimate)
        self._estimate = self.used

    def fields(self, now_s: float) -> bytes:
        """Return what the client may know of its limits, as header lines; only those there are."""
        return self._account.fields(now_s)

    def headers(self, now_s: float) -> dict[str, str]:
        """Return the same as names and values."""
        lines = self.fields(now_s).decode().splitlines()
        return dict(line.split(": ", 1) for line in lines)


class Quotas:
    """The accounts of all tenants that have limits; one object for a router's life. `share` is the
    part of each limit that it hands out: all of it, or what one of several workers may."""

    def __init__(self, share: float = 1.0) -> None:
        self._share = share
        self._shares: dict[str, float] = {}  # of those tenants that have another one
        self._accounts: dict[str, Account] = {}
        self._of_others = Account()  # of all tenants without limits

    def __repr__(self) -> str:
        running = {name: a.in_flight for name, a in sorted(self._accounts.items()) if a.in_flight}
        return f"Quotas({len(self._accounts)} accounts, in flight: {running})"

    @property
    def accounts(self) -> int:
        """How many tenants are remembered."""
        return len(self._accounts)

    def in_flight(self, tenant: str) -> int:
        """Return how many requests of a tenant are held."""
        account = self._accounts.get(tenant)
        return account.in_flight if account else 0

    def retain(self, tenants: Iterable[str]) -> None:
        """Forget tenants that are gone, as soon as none of their requests runs."""
        known = frozenset(tenants)
        gone = [n for n, a in self._accounts.items() if n not in known and not a.in_flight]
        for name in gone:
            del self._accounts[name]

    def divide(self, shares: Mapping[str, float], now_s: float) -> None:
        """Hand out other parts of the limits of these tenants from now on; what is owed stays."""
        self._shares = dict(shares)
        for name, account in self._accounts.items():
            share, tenant = shares.get(name, self._share), account.tenant
            if tenant is not None and share != account.share:
                account.share, account.tenant = share, None
                account.follow(tenant, now_s)

    def check(self, tenant: Tenant, now_s: float) -> None:
        """Raise OverQuota if `hold` would; takes nothing."""
        self._check(tenant, self.account(tenant, now_s), now_s)

    def _check(self, tenant: Tenant, account: Account, now_s: float) -> None:
        if account.requests and (wait_s := account.requests.wait_s(1, now_s)):
            raise OverQuota(
                f"Tenant {tenant.name!r} has sent its {tenant.requests_per_minute} requests "
                "a minute to this router.",
                retry_after_s=wait_s,
                reason="requests-per-minute",
                hold=Hold(tenant, account),
            )
        if 0 < account.most <= account.in_flight:
            raise OverQuota(
                f"Tenant {tenant.name!r} already has {account.in_flight} requests at work here, "
                f"of {tenant.max_concurrent} at once.",
                retry_after_s=_BUSY_WAIT_S,
                reason="max-concurrent",
                hold=Hold(tenant, account),
            )

    def hold(self, tenant: Tenant, now_s: float) -> "Holding":
        """Take one request of a tenant's limits and hold its place, as a context; raises OverQuota
        when it is entered."""
        return Holding(self, tenant, now_s)

    def enter(self, tenant: Tenant, now_s: float) -> Hold:
        """Begin a hold; `Hold.leave` ends it. Raises OverQuota."""
        account = self._accounts.get(tenant.name)
        if account is None or account.tenant is not tenant:
            account = self.account(tenant, now_s)
        if account.requests is not None or tenant.max_concurrent:
            self._check(tenant, account, now_s)
            if account.requests is not None:
                account.requests.level -= 1.0
        account.in_flight += 1
        return Hold(tenant, account)

    def account(self, tenant: Tenant, now_s: float) -> Account:
        """Return the tenant's account; one without limits has none that is kept. It is good as long
        as the tenant is the same."""
        account = self._accounts.get(tenant.name)
        if account is None:
            if not (
                tenant.requests_per_minute or tenant.tokens_per_minute or tenant.max_concurrent
            ):
                return self._of_others
            share = self._shares.get(tenant.name, self._share)
            account = self._accounts[tenant.name] = Account(share=share)
        if account.tenant is not tenant:
            account.follow(tenant, now_s)
        return account


class Holding:
    """A hold as a context: leaving it is the one release path."""

    __slots__ = ("_at_s", "_hold", "_quotas", "_tenant")

    def __init__(self, quotas: Quotas, tenant: Tenant, now_s: float) -> None:
        self._quotas = quotas
        self._tenant = tenant
        self._at_s = now_s

    def __enter__(self) -> Hold:
        self._hold = self._quotas.enter(self._tenant, self._at_s)
        return self._hold

    def __exit__(self, *_: object) -> None:
        self._hold.leave()
