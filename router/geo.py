"""Where a client is: from its address to a place on Earth. The one door to geoip2.

Input: the peer's address and its X-Forwarded-For headers, and a MaxMind database. Output: a Place,
or None: unknown is a value, never an error. The bundled database is region-grade (see NOTICE); an
operator can name a better one.
"""

import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import geoip2.database
import geoip2.errors
from maxminddb import InvalidDatabaseError

from federation.contract.errors import Invalid
from federation.contract.types import Location

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).parent / "data" / "region-lite.mmdb"
_CACHED = 65_536

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an address is, as far as the database knows."""

    country: str  # ISO 3166-1 alpha-2, "" where unknown
    location: Location | None


class Locator:
    """Finds the place of a client. Close it when done."""

    def __init__(self, path: Path = BUNDLED, trusted_proxies: Sequence[str] = ()) -> None:
        self._trusted = tuple(_network(text) for text in trusted_proxies)
        try:
            self._reader = geoip2.database.Reader(path)
        except (OSError, InvalidDatabaseError) as error:
            raise Invalid(
                f"Cannot read the geo database {path}: {error}.",
                hint="--geoip-db needs a MaxMind DB file (.mmdb).",
            ) from None
        about = self._reader.metadata()
        self.built_at = datetime.fromtimestamp(about.build_epoch, UTC)
        self.kind = about.database_type
        self.compiled = find_spec("maxminddb.extension") is not None
        self._has_cities = "City" in self.kind or "Enterprise" in self.kind
        if not (self._has_cities or "Country" in self.kind):
            self.close()
            raise Invalid(
                f"{path} is a {self.kind!r} database, which has no places.",
                hint="Use a City or Country database.",
            )
        self.locate = lru_cache(maxsize=_CACHED)(self._locate)
        log.info("%r", self)

    def __repr__(self) -> str:
        reader = "compiled" if self.compiled else "pure Python (slow)"
        return f"Locator({self.kind}, built {self.built_at:%Y-%m-%d}, {reader} reader)"

    def close(self) -> None:
        """Close the database."""
        self._reader.close()

    def client_address(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """Return the client's address: the right-most one that no trusted proxy vouches for.

        Each trusted proxy appends who it heard the request from; the first address from the right
        that is not a trusted proxy is the last that anyone we trust has seen. What stands left of
        it the client may have invented.
        """
        hops = [hop.strip() for line in forwarded_for for hop in line.split(",")]
        address = _plain(peer) or peer
        while hops and self._is_trusted(address):
            claimed = _plain(hops.pop())
            if claimed is None:
                break
            address = claimed
        return address

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted)

    def _locate(self, address: str) -> Place | None:
        """Return the place of an address; None for private, unknown and malformed ones."""
        plain = _plain(address)
        if plain is None:
            return None
        try:
            if not self._has_cities:
                country = self._reader.country(plain).country.iso_code
                return Place(country=country or "", location=None)
            found = self._reader.city(plain)
        except (geoip2.errors.AddressNotFoundError, ValueError, InvalidDatabaseError):
            return None
        latitude, longitude = found.location.latitude, found.location.longitude
        location = None
        if latitude is not None and longitude is not None:
            location = Location(latitude=latitude, longitude=longitude)
        return Place(country=found.country.iso_code or "", location=location)


def _plain(text: str) -> str | None:
    """Return an address without port, brackets, zone and IPv4-in-IPv6 form, or None if it is none.

    A zone (RFC 4007) means something at its own host only, and may hold whatever a client likes.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Invalid(
            f"--trusted-proxies {text!r} is no network.", hint="Use CIDR, like 10.0.0.0/8."
        ) from None
