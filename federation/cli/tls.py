"""TLS for `fed`, with the standard library alone: which roots it trusts, which name it demands.

Input: an endpoint and the file of its roots. Output: connections whose far end is proven to be that
federation's control plane, under whatever address it was reached. Without a file of roots, the
machine's own authorities and the host's name count, as for any web site.
"""

import http.client
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from federation.contract.errors import Invalid
from federation.contract.spiffe import control_plane_dns_name
from federation.trust.pins import pinned_root

_SPIFFE = "spiffe://"


@dataclass(frozen=True, slots=True)
class Roots:
    """Certificates that a control plane's own must be below (PEM)."""

    pem: str

    def context(self) -> ssl.SSLContext:
        """Return a context that trusts these roots alone; raises Invalid."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cadata=self.pem)
        except (ssl.SSLError, ValueError):
            raise Invalid("the roots are no certificates in PEM.") from None
        return context


def read_roots(path: str) -> Roots | None:
    """Return the roots in a file ("" = none); raises Invalid with the remedy."""
    if not path:
        return None
    try:
        roots = Roots(Path(path).expanduser().read_text("ascii"))
        roots.context()
    except (OSError, UnicodeDecodeError) as error:
        words = getattr(error, "strerror", None) or "it is no PEM"
        raise _bad_file(path, words) from None
    except Invalid:
        raise _bad_file(path, "it holds no certificates") from None
    return roots


def _bad_file(path: str, words: str) -> Invalid:
    return Invalid(
        f"cannot read the roots in {path}: {words}.",
        hint="Name another file with --ca-file or FED_CA_FILE, or `fed login` again.",
    )


def pinned(pems: list[str], pin: str) -> Roots:
    """Return the one root that has the pin; raises Invalid if none has."""
    if root := pinned_root(pems, pin):
        return Roots(root)
    raise Invalid(
        "the control plane there has no root with this pin: it is another one, or somebody sits "
        "in between.",
        hint="Compare the pin with what `fed ca pin` prints at the control plane.",
        reason="wrong-ca-pin",
    )


def server_name(context: ssl.SSLContext, host: str) -> str:
    """Return the name that the server must prove: the control plane's if the roots are those of a
    federation, else that of the host."""
    for root in context.get_ca_certs():
        for kind, value in _names(root):
            if kind == "URI" and value.startswith(_SPIFFE):
                return control_plane_dns_name(value.removeprefix(_SPIFFE))
    return host


def _names(certificate: dict[str, Any]) -> list[tuple[str, str]]:
    return list(certificate.get("subjectAltName", ()))


class _NamedConnection(http.client.HTTPSConnection):
    """A connection whose far end must prove `server_name`, whatever the host is called."""

    def __init__(
        self, host: str, port: int | None, *, context: ssl.SSLContext, name: str, timeout: float
    ) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        """Connect and prove the far end; raises OSError."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def connection(
    endpoint: str, *, roots: Roots | None, timeout_s: float, unverified: bool = False
) -> http.client.HTTPConnection:
    """Return a connection that is yet to connect.

    `unverified` proves nothing: it is for the one call before the roots are known, which carries
    no secret.
    """
    parts = urlsplit(endpoint)
    host, port = parts.hostname or "", parts.port
    if parts.scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    if unverified:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        name = host
    elif roots is not None:
        context = roots.context()
        name = server_name(context, host)
    else:
        context, name = ssl.create_default_context(), host
    return _NamedConnection(host, port, context=context, name=name, timeout=timeout_s)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
