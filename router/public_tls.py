"""The TLS that clients see: a certificate in files, followed when somebody renews it.

Input: the paths of a certificate chain and its key (PEM), as certbot and its like write them.
Output: a context for the public listener. New files are used from the next handshake on, open
connections stay as they are; a pair that cannot be used is reported, and the old one stays.
"""

import asyncio
import ipaddress
import logging
import ssl
from pathlib import Path

from federation.contract.errors import Invalid
from federation.relay.transport import H2

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
_State = tuple[tuple[int, int, int], ...]


class PublicTls:
    """A listener's certificate. `context` is for the listener; it always shows the newest pair."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._paths = (certificate, key)
        self._seen = self._look()
        self._newest = self._load()
        self.context = self._load()
        self.context.sni_callback = self._swap

    def __repr__(self) -> str:
        return f"PublicTls({self._paths[0]})"

    def reload(self) -> bool:
        """Read the files again if they changed; return whether a new pair is in use."""
        seen = self._look()
        if seen == self._seen:
            return False
        try:
            self._newest = self._load()
        except Invalid as error:
            # Perhaps only one of the two is written yet: looked at again the next time.
            log.error("the old certificate stays in use: %s", error.sentence())  # noqa: TRY400
            return False
        self._seen = seen
        log.info("clients are shown the new certificate in %s", self._paths[0])
        return True

    async def follow(self, changed: asyncio.Event | None = None) -> None:
        """Look at the files every few seconds, and at once when `changed` is set."""
        changed = changed or asyncio.Event()
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await changed.wait()
            except TimeoutError:
                pass
            changed.clear()
            await asyncio.to_thread(self.reload)

    def _swap(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        connection.context = self._newest

    def _look(self) -> _State:
        """Return what changes when somebody replaces a file, or what a link to it points to."""
        try:
            found = [path.stat() for path in self._paths]
        except OSError:
            return ()
        return tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in found)

    def _load(self) -> ssl.SSLContext:
        certificate, key = self._paths
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # In this order: clients that offer both get HTTP/1.1, for HTTP/2 carries gRPC alone here.
        context.set_alpn_protocols(["http/1.1", H2])
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise Invalid(
                f"The certificate {certificate} and the key {key} cannot be used: {error}.",
                hint="They must be PEM: the chain, leaf first, and its key without a password.",
            ) from None
        return context


def _no_password() -> str:
    raise ValueError("the key is protected by a password")


def check_exposure(listen: str, *, tls: bool, insecure: bool) -> None:
    """Refuse to take keys in plain text from a network; raises Invalid with the remedies."""
    host = listen.rpartition(":")[0].strip("[]")
    if tls or insecure or is_loopback(host):
        return
    raise Invalid(
        f"--listen {listen} would take API keys over the network in plain text.",
        hint="Give --tls-certificate and --tls-key; or, behind a load balancer that ends TLS, "
        "--insecure-listen.",
        reason="insecure-listen",
    )


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address of its own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
