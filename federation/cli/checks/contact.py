"""First contact with a control plane, step by step: is it there, is it ours, do the clocks agree?

Input: its addresses and the pin of its root. Output: findings. Nothing secret is sent, so that it
can be run anywhere before a cluster joins.
"""

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from federation.cli.checks.finding import Finding, failed, ok, warning
from federation.cli.tls import connection
from federation.contract.spiffe import control_plane_dns_name
from federation.trust.pins import pinned_root

SKEW_WARNING_S, SKEW_FAILED_S = 5.0, 60.0  # certificates are backdated by a minute
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Told:
    """What the control plane tells everybody."""

    trust_domain: str
    roots: tuple[str, ...]
    at: datetime | None  # its clock


def contact(
    url: str, *, grpc: str, pin: str, now: datetime, timeout_s: float = 5.0
) -> list[Finding]:
    """Go as far as it works: reach, pin, certificate, clock, then the port for streams."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        remedy = "Use https://HOST:PORT, as the join line has it."
        return [failed("control plane", f"{url!r} is no https URL", remedy)]
    address = (parts.hostname, parts.port or 443)
    try:
        told = _ask(url, timeout_s)
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        remedy = "Is it running? Is the way there open: firewall, DNS, routes?"
        return [failed("control plane", f"{url} does not answer: {reason}", remedy)]
    found = [ok("control plane", f"{url}, trust domain {told.trust_domain}")]
    root = pinned_root(told.roots, pin)
    if not pin:
        remedy = "Give --ca-pin with what `fed cluster register` printed."
        found.append(warning("pin", "not checked: no pin was given", remedy))
    elif not root:
        remedy = "Something else answers there, or the pin is of another federation. Do not join."
        found.append(failed("pin", "none of its roots is the pinned one", remedy))
        return found
    else:
        found.append(ok("pin", "the root is the pinned one"))
    name = control_plane_dns_name(told.trust_domain)
    bundle = root or "".join(told.roots)
    found.append(_proven("certificate", address, name, bundle, timeout_s))
    found.append(clock_skew(told.at, now))
    if grpc:
        host, _, port = grpc.rpartition(":")
        streams = (host.strip("[]"), int(port) if port.isdigit() else 0)
        found.append(_proven("port for streams", streams, name, bundle, timeout_s))
    return found


def _ask(url: str, timeout_s: float) -> Told:
    """Ask what is told to everybody, over TLS that proves nothing yet."""
    asking = connection(url, roots=None, timeout_s=timeout_s, unverified=True)
    try:
        asking.request("GET", "/api/v1/trust")
        answer = asking.getresponse()
        document = json.loads(answer.read(_MAX_BYTES))
        roots = tuple(str(root) for root in document["roots"])
        return Told(str(document["trustDomain"]), roots, _date(answer.getheader("Date")))
    finally:
        asking.close()


def told_at(url: str, timeout_s: float = 5.0) -> datetime | None:
    """Return the time by the clock of the control plane at `url`; None if it cannot be asked."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return None
    try:
        return _ask(url, timeout_s).at
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return None


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None


def _proven(
    name: str, address: tuple[str, int], server_name: str, bundle: str, timeout_s: float
) -> Finding:
    """Shake hands and demand the control plane's own name below the trusted roots."""
    where = f"{address[0]}:{address[1]}"
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=bundle)
        with (
            socket.create_connection(address, timeout_s) as raw,
            context.wrap_socket(raw, server_hostname=server_name) as tls,
        ):
            until = dict(tls.getpeercert() or {}).get("notAfter", "")
    except ssl.SSLCertVerificationError as error:
        told = error.verify_message
        remedy = "If it is not valid yet or expired, look at the clocks; else do not join."
        return failed(name, f"{where} does not prove who it is: {told}", remedy)
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or str(error)
        return failed(name, f"{where}: {told}", "Open this port from here to the control plane.")
    return ok(name, f"{where}, valid until {until}")


def clock_skew(theirs: datetime | None, now: datetime) -> Finding:
    """Compare clocks; HTTP dates have whole seconds, so one second is nothing."""
    if theirs is None:
        return warning("clock", "the control plane tells no time", "Check it by hand.")
    skew_s = (now - theirs).total_seconds()
    told = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the control plane"
    remedy = "Let NTP keep this clock: certificates begin and end by it."
    if abs(skew_s) >= SKEW_FAILED_S:
        return failed("clock", told, remedy)
    if abs(skew_s) >= SKEW_WARNING_S:
        return warning("clock", told, remedy)
    return ok("clock", "agrees with the control plane")
