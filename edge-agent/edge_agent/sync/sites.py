"""Where bytes are fetched from: URLs, checked before anybody dials.

Input: a URL from a document of the control plane. Output: a Site to connect to, and what to ask it
for. Only https, except to this machine itself. What the control plane serves is trusted by the
federation's roots, anything else by the system's.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from federation.contract.errors import Invalid

_PRINTABLE = re.compile(r"[!-~]{1,8192}")
_LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1")
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Site:
    """A server. `ours`: it is part of the federation; then `name` is the DNS name that its
    certificate must carry, and ours is shown to it."""

    scheme: str
    host: str
    port: int
    ours: bool = False
    name: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """What to ask a site for. `target` may hold a signature: `str` leaves the query out."""

    site: Site
    target: str

    def __str__(self) -> str:
        return f"{self.site}{self.target.partition('?')[0]}"


def parse_url(url: str, *, ours: bool = False, name: str = "") -> Target:
    """Return what a URL names; raises Invalid for what must not be asked for."""
    shown = url.partition("?")[0][:200]
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Invalid(f"{shown!r} is not a URL.") from None
    host = parts.hostname or ""
    if not _PRINTABLE.fullmatch(url) or parts.scheme not in _PORTS or not host or parts.fragment:
        raise Invalid(f"{shown!r} is not a URL that packages are fetched from.")
    if "@" in parts.netloc:
        raise Invalid(f"the URL of a pack at {host!r} has a user name in it.")
    if parts.scheme == "http" and not _LOOPBACK.fullmatch(host):
        raise Invalid(
            f"{shown!r} is not encrypted: plain http is taken from this machine alone.",
            hint="Let the store's URLs begin with https.",
        )
    query = f"?{parts.query}" if parts.query else ""
    site = Site(parts.scheme, host, port or _PORTS[parts.scheme], ours=ours, name=name)
    return Target(site, (parts.path or "/") + query)


def resolve(url: str, home: str, home_name: str) -> Target:
    """Return what a URL names that may be relative to the control plane's URL `home`, whose
    certificate carries `home_name`; raises Invalid."""
    base = parse_url(home, ours=True, name=home_name)
    if url.startswith("/") and not url.startswith("//"):
        return parse_url(f"{base.site}{url}", ours=True, name=home_name)
    found = parse_url(url)
    own = (base.site.scheme, base.site.host, base.site.port)
    if (found.site.scheme, found.site.host, found.site.port) == own:
        return Target(base.site, found.target)
    return found
