"""DNS records for the routers, weighted by what they measured: for a DNS service that exists.

Input: the documents of the routers. Output: records as values, as JSON for the import of a DNS
service (weights, places), and as a zone file (RFC 1035) with SRV (RFC 2782) and LOC (RFC 1876).
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from urllib.parse import urlsplit

from federation.cli.documents import Json, look, look_map, name_of
from federation.contract.errors import Invalid

FULL = 100  # the weight of the best router
SAME_MS = 10.0  # two routers whose nearest clusters differ by less are nearly the same
_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})+").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsRecord:
    """One router: `value` is its address or its host name, `reach_ms` the measured round trip to
    the nearest cluster that it finds healthy."""

    router: str
    url: str
    type: str
    value: str
    port: int
    weight: int
    reach_ms: float
    healthy: int
    clusters: int
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """All of them; `left_out` maps a router to why it has no record."""

    name: str
    ttl_s: int
    records: tuple[DnsRecord, ...]
    left_out: dict[str, str]


def check_dns_name(name: str) -> str:
    """Return a name in lower case, without the last dot; raises Invalid."""
    plain = name.lower().removesuffix(".")
    if len(plain) > 253 or not _NAME(plain):
        raise Invalid(f"{name!r} is no DNS name.", hint="Use one like inference.example.net.")
    return plain


def export(name: str, ttl_s: int, routers: Iterable[Json]) -> Export:
    """Return the records of the routers that can answer, ordered by name.

    A router's weight falls with its distance to the nearest cluster, and with the share of the
    clusters that it finds healthy; the best has 100.
    """
    found: list[tuple[float, DnsRecord]] = []
    left_out: dict[str, str] = {}
    for router in sorted(routers, key=name_of):
        seen = [c for c in look_map(router, "status", "clusters").values() if isinstance(c, dict)]
        near = [c["rtt_ms"] for c in seen if c.get("healthy") and c.get("rtt_ms")]
        if why := _why_not(router, near):
            left_out[name_of(router)] = why
            continue
        healthy = sum(bool(c.get("healthy")) for c in seen)
        reach_ms = float(min(near))
        record = _record(router, reach_ms, healthy, len(seen))
        found.append((healthy / len(seen) / (reach_ms + SAME_MS), record))
    best = max((worth for worth, _ in found), default=1.0)
    return Export(
        name=name,
        ttl_s=ttl_s,
        records=tuple(
            replace(record, weight=max(round(FULL * worth / best), 1)) for worth, record in found
        ),
        left_out=left_out,
    )


def _why_not(router: Json, near: list[float]) -> str:
    url = str(look(router, "status", "url") or "")
    if not look(router, "status", "connected"):
        return "it is not connected"
    host = _host_and_port(url)[0]
    if not host:
        return f"{url!r} is no URL that clients can use: set --advertise-url"
    if _is_local(host):
        return f"{url} is an address of its own machine: set --advertise-url"
    return "" if near else "it finds no cluster healthy"


def _record(router: Json, reach_ms: float, healthy: int, clusters: int) -> DnsRecord:
    url = str(look(router, "status", "url"))
    host, port = _host_and_port(url)
    place = look_map(router, "status", "location")
    return DnsRecord(
        router=name_of(router),
        url=url,
        type=_type(host),
        value=host,
        port=port,
        weight=0,
        reach_ms=round(reach_ms, 1),
        healthy=healthy,
        clusters=clusters,
        latitude=place.get("latitude"),
        longitude=place.get("longitude"),
    )


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "", 0
    if parts.scheme not in ("http", "https") or not (_type(host) != "CNAME" or _NAME(host)):
        return "", 0
    return host, port or (443 if parts.scheme == "https" else 80)


def _type(host: str) -> str:
    try:
        return "AAAA" if ipaddress.ip_address(host).version == 6 else "A"
    except ValueError:
        return "CNAME"


def _is_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def as_json(exported: Export) -> Json:
    """Return all of it, for the import of a DNS service that knows weights and places."""
    return {
        "name": exported.name,
        "ttl_s": exported.ttl_s,
        "records": [asdict(record) for record in exported.records],
        "left_out": exported.left_out,
    }


def as_zone(exported: Export) -> Iterator[str]:
    """Yield the lines of a zone file: each router under its own name, all of them with their
    weights under one SRV name, and those that have addresses under the name itself."""
    first, _, origin = exported.name.partition(".")
    yield f"; routers for {exported.name}, weighted by the round trips that they measured"
    for name, why in exported.left_out.items():
        yield f"; {_comment(name)} is left out: {_comment(why)}"
    yield f"$ORIGIN {origin}."
    yield f"$TTL {exported.ttl_s}"
    for record in exported.records:
        own = f"{record.router}.{first}"
        value = f"{record.value}." if record.type == "CNAME" else record.value
        yield (
            f"{own} IN {record.type} {value} ; weight {record.weight}, {record.reach_ms:g} ms to "
            f"the nearest of {record.healthy} healthy clusters (of {record.clusters})"
        )
        if record.type != "CNAME":  # which stands alone (RFC 1034, 3.6.2)
            if record.latitude is not None and record.longitude is not None:
                yield f"{own} IN LOC {_place(record.latitude, record.longitude)}"
            yield f"{first} IN {record.type} {record.value}"
    for record in exported.records:  # SRV must not point to an alias (RFC 2782)
        target = f"{record.value}." if record.type == "CNAME" else f"{record.router}.{first}"
        yield f"_inference._tcp.{first} IN SRV 0 {record.weight} {record.port} {target}"


def _place(latitude: float, longitude: float) -> str:
    north, east = ("N", "S")[latitude < 0], ("E", "W")[longitude < 0]
    return f"{_angle(latitude)} {north} {_angle(longitude)} {east} 0m 10000m"


def _angle(degrees: float) -> str:
    seconds = round(abs(degrees) * 3600)
    return f"{seconds // 3600} {seconds // 60 % 60} {seconds % 60}.000"


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
