"""The certificate, the private key and the roots of one process, and the TLS made of them.

Input: what the control plane issued (`install`, `keep_trust`), or what lies in the directory from
the last run. Output: contexts for servers and clients that follow every change. Rotation drops
nothing: open connections keep the certificate they were made with, new ones get the newest.

Files: `identity.pem` (key and certificate, 0600) and `trust.json`, each replaced atomically.
"""

import contextlib
import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import msgspec

from federation.contract.errors import Invalid
from federation.contract.trust import Trust
from federation.runtime.files import write_atomic
from federation.trust.keys import Facts, facts_of

IDENTITY_FILE, TRUST_FILE = "identity.pem", "trust.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A certificate with its private key (both PEM)."""

    certificate: str
    key: str
    facts: Facts

    def __repr__(self) -> str:
        return f"Leaf({self.facts.id}, until {self.facts.not_after:%F %T})"


class Credentials:
    """What this process shows and whom it trusts; `directory` None keeps it in memory only."""

    def __init__(self, directory: Path | None) -> None:
        self.leaf: Leaf | None = None
        self.trust: Trust | None = None
        self.on_change: list[Callable[[], None]] = []
        self._directory = directory
        self._clients: dict[str, ssl.SSLContext] = {}  # by ALPN protocol
        self._servers: dict[tuple[ssl.VerifyMode, str], ssl.SSLContext] = {}
        if directory is not None:
            self._load(directory)

    def __repr__(self) -> str:
        return f"Credentials({self.leaf}, trust={self.trust.version if self.trust else None})"

    @property
    def directory(self) -> Path | None:
        """Where the files lie; None if they are kept in memory only."""
        return self._directory

    @property
    def complete(self) -> bool:
        """Whether connections can be made and accepted."""
        return self.leaf is not None and self.trust is not None

    def require(self) -> tuple[Leaf, Trust]:
        """Return leaf and trust; raises Invalid before this process has joined."""
        if self.leaf is None or self.trust is None:
            raise Invalid("this process has no certificate yet: it has not joined.")
        return self.leaf, self.trust

    # ------------------------------------------------------------ changes

    def install(self, certificate: str, key: str, *, trust: Trust | None = None) -> Leaf:
        """Use a new certificate from now on, and keep it on disk.

        With `trust` (a join) it also replaces whom to trust, whatever its version: the federation
        that was joined may be another one than before.
        """
        leaf = Leaf(certificate=certificate, key=key, facts=facts_of(certificate))
        if trust is not None:
            self._keep(trust)
        if self._directory is not None:
            data = f"{key.rstrip()}\n{certificate.rstrip()}\n".encode()
            write_atomic(self._directory / IDENTITY_FILE, data, mode=0o600)
        self.leaf = leaf
        self._changed()
        return leaf

    def keep_trust(self, trust: Trust) -> bool:
        """Trust what is newer than what is held; return whether it was."""
        if self.trust is not None and trust.version <= self.trust.version:
            return False
        self._keep(trust)
        self._changed()
        return True

    def is_current(self, context: object) -> bool:
        """Return whether a connection made with this context shows what is held now."""
        newest = (*self._clients.values(), *self._servers.values())
        return any(context is one for one in newest)

    def _keep(self, trust: Trust) -> None:
        if self._directory is not None:
            write_atomic(self._directory / TRUST_FILE, msgspec.json.encode(trust), mode=0o600)
        self.trust = trust

    def _changed(self) -> None:
        self._clients.clear()
        self._servers.clear()
        for tell in self.on_change:
            tell()

    def _load(self, directory: Path) -> None:
        try:
            identity = (directory / IDENTITY_FILE).read_text(encoding="utf-8")
            trust = (directory / TRUST_FILE).read_bytes()
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"cannot read the identity in {directory}: {error}.") from None
        key, begin, rest = identity.partition("-----BEGIN CERTIFICATE-----")
        try:
            self.trust = msgspec.json.decode(trust, type=Trust)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Invalid(f"{directory / TRUST_FILE} cannot be read: {error}.") from None
        self.leaf = Leaf(certificate=begin + rest, key=key, facts=facts_of(begin + rest))

    # ------------------------------------------------------------ TLS

    def client_context(self, *, alpn: str = "") -> ssl.SSLContext:
        """Return the context for dialling: a new object after each change, so that pools of
        connections can tell old ones apart. It checks the server's name: see `PeerId.dns_name`.
        `alpn` is the protocol to offer; whether it was agreed on is for the caller to check."""
        if alpn not in self._clients:
            self._clients[alpn] = self._context(ssl.PROTOCOL_TLS_CLIENT, alpn)
        return self._clients[alpn]

    def server_context(self, *, demand_clients: bool = True, alpn: str = "") -> ssl.SSLContext:
        """Return a context that a listener keeps for good: each handshake uses the newest
        certificate and roots. Clients must show a certificate, or may with `demand_clients` False.
        `alpn` is the protocol to accept; OpenSSL lets clients pass that offer another one, or none,
        so that a listener that demands it checks what was agreed on.
        """
        mode = ssl.CERT_REQUIRED if demand_clients else ssl.CERT_OPTIONAL

        def newest(
            connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext
        ) -> None:
            connection.context = self._newest_server(mode, alpn)

        context = self._context(ssl.PROTOCOL_TLS_SERVER, alpn)
        context.verify_mode = mode  # a connection keeps this; all else comes from the newest
        context.sni_callback = newest
        return context

    def _newest_server(self, mode: ssl.VerifyMode, alpn: str) -> ssl.SSLContext:
        if (mode, alpn) not in self._servers:
            context = self._context(ssl.PROTOCOL_TLS_SERVER, alpn)
            context.verify_mode = mode
            self._servers[mode, alpn] = context
        return self._servers[mode, alpn]

    def _context(self, protocol: "ssl._SSLMethod", alpn: str) -> ssl.SSLContext:
        leaf, trust = self.require()
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=trust.bundle)
        with _as_file(leaf) as path:
            context.load_cert_chain(path)
        if alpn:
            context.set_alpn_protocols([alpn])
        if protocol is ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # no resumption: every connection shows its certificate
        return context

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return what a gRPC channel shows and demands; it does not follow later changes."""
        leaf, trust = self.require()
        return grpc.ssl_channel_credentials(
            root_certificates=trust.bundle.encode(),
            private_key=leaf.key.encode(),
            certificate_chain=leaf.certificate.encode(),
        )

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return what a gRPC server shows and demands; it follows every change.

        gRPC asks at each handshake, in threads of its own. It gets a new configuration only if
        there is one: replacing it while other handshakes begin can end the process (seen with
        gRPC 1.85: "Check failed: prior > 0" when hundreds of peers connect at once).
        """
        shown = [self.require()]

        def newer() -> grpc.ServerCertificateConfiguration | None:
            held = self.require()
            if held == shown[0]:
                return None
            shown[0] = held
            return self._grpc_configuration()

        return grpc.dynamic_ssl_server_credentials(
            self._grpc_configuration(),
            newer,  # type: ignore[arg-type]  # None is allowed; types-grpcio does not know
            require_client_authentication=True,
        )

    def _grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        leaf, trust = self.require()
        return grpc.ssl_server_certificate_configuration(
            [(leaf.key.encode(), leaf.certificate.encode())], trust.bundle.encode()
        )


@contextlib.contextmanager
def _as_file(leaf: Leaf) -> Iterator[str]:
    """Yield the path of a file with key and certificate: `ssl` reads them from nowhere else."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # made with mode 0600
        file.write(f"{leaf.key.rstrip()}\n{leaf.certificate.rstrip()}\n")
        file.flush()
        yield file.name
