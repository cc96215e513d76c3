"""How a process gets its certificate: first contact, joining, renewing. The client's side.

Input: the control plane's URL, the pin of its root, a join token in a file; later the certificate
held. Output: a certificate and whom to trust, installed in Credentials. Nothing secret is sent
before the far end has proved that it holds a certificate below the pinned root. The private key is
on disk before the join is sent: a lost answer is asked for again with the same key.
"""

import asyncio
import base64
import ssl

import msgspec

from federation.contract.errors import (
    Invalid,
    Unauthenticated,
    Unavailable,
)
from federation.contract.spiffe import PeerId, PeerRole, control_plane_dns_name
from federation.contract.trust import Revocation, Trust
from federation.runtime.files import write_atomic
from federation.trust.calls import (
    Contact,
    Sent,
    call,
    demanding,
    no_control_plane,
    trusting_nobody,
)
from federation.trust.credentials import Credentials
from federation.trust.keys import (
    belong_together,
    facts_of,
    new_key,
    sign,
    signing_request,
    trust_domain_of,
)
from federation.trust.pins import check_pin, pinned_root

JOINING_FILE = "joining.pem"
_TOKEN_KINDS = {PeerRole.CLUSTER: "join", PeerRole.ROUTER: "routerjoin"}


class _Revoked(msgspec.Struct):
    uri: str
    below: int


class _Trust(msgspec.Struct, rename="camel"):
    """Whom to trust, as the control plane's JSON has it."""

    version: int
    trust_domain: str
    roots: tuple[str, ...]
    revoked: tuple[_Revoked, ...] = ()
    release_keys: tuple[str, ...] = ()

    def trust(self) -> Trust:
        return Trust(
            version=self.version,
            trust_domain=self.trust_domain,
            roots=self.roots,
            revoked=tuple(Revocation(uri=r.uri, below=r.below) for r in self.revoked),
            release_keys=self.release_keys,
        )


class _Enrolled(msgspec.Struct):
    """The part of the answer to a join or a renewal that is used."""

    certificate: str
    trust: _Trust


class Enrolment:
    """Asks the control plane for this process's certificate, and installs the answer."""

    def __init__(
        self, credentials: Credentials, contact: Contact, *, role: PeerRole, name: str
    ) -> None:
        self.contact = contact
        self.credentials = credentials
        self._role = role
        self._name = name
        self._joining_key = ""

    def __repr__(self) -> str:
        return f"Enrolment({self._role.value} {self._name} at {self.contact.url})"

    def check(self) -> None:
        """Raise Invalid if this process has no certificate and nothing to get one with.

        Also raises it if the certificate on disk is of somebody else.
        """
        if self.credentials.leaf is not None:
            self._check_id(self.credentials.leaf.facts.id)
            return
        command = f"`fed {self._role.value} register {self._name}`"
        if self.contact.token_file is None:
            raise Invalid(
                f"this {self._role.value} has not joined yet, and there is no join token.",
                hint=f"Give --join-token-file and --ca-pin: {command} prints both.",
            )
        if not self.contact.pin:
            raise Invalid(
                f"this {self._role.value} has not joined yet, and knows no root to trust.",
                hint=f"Give --ca-pin with what {command} printed.",
            )

    async def join(self) -> bool:
        """Join with the token in the file; return whether that is done, else an operator must
        accept it first.

        Raises Unauthenticated (wrong-ca: the far end is not below the pinned root), what the
        control plane refused with, Invalid if there is no token, Unavailable if nobody answers.
        """
        token = await asyncio.to_thread(self._token)
        check_pin(self.contact.pin)
        key = await asyncio.to_thread(self._key)
        root = await self._pinned_root()
        document = {"token": token, "csr": signing_request(key)}
        enrolled = await self._ask("join", document, demanding(root), trust_domain_of(root))
        if enrolled is None:
            return False
        self._check(enrolled, key)
        self.credentials.install(enrolled.certificate, key, trust=enrolled.trust.trust())
        await asyncio.to_thread(self._forget_key)
        return True

    async def renew(self) -> None:
        """Exchange the certificate held, also an expired one, for a new one with a new key.

        Raises as `join` does.
        """
        leaf, trust = self.credentials.require()
        key = new_key()
        request = signing_request(key)
        document = {
            "certificate": leaf.certificate,
            "csr": request,
            "proof": base64.b64encode(sign(leaf.key, request.encode())).decode(),
        }
        enrolled = await self._ask("renew", document, demanding(trust.bundle), trust.trust_domain)
        if enrolled is None:
            raise Unavailable("the control plane has not accepted the renewal.")
        self._check(enrolled, key)
        self.credentials.keep_trust(enrolled.trust.trust())
        self.credentials.install(enrolled.certificate, key)

    async def has_token(self) -> bool:
        """Return whether there is a token to join with now; reads the file."""
        try:
            return bool(self.contact.pin and await asyncio.to_thread(self._token))
        except Invalid:
            return False

    # ------------------------------------------------------------ what is shown

    def _token(self) -> str:
        """Return the join token; raises Invalid. It is read each time: it may be replaced."""
        path = self.contact.token_file
        if path is None:
            raise Invalid("there is no join token.", hint="Give --join-token-file.")
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            told = getattr(error, "strerror", None) or "it is no text"
            raise Invalid(f"cannot read the join token in {path}: {told}.") from None
        kind, name = f"fed_{_TOKEN_KINDS.get(self._role)}_", self._name
        if not token.startswith(f"{kind}{name}_"):
            raise Invalid(
                f"{path} holds no join token of the {self._role.value} {name!r}.",
                hint=f"`fed {self._role.value} register {name}` prints one.",
                reason="wrong-join-token",
            )
        return token

    def _key(self) -> str:
        """Return the key to join with: that of an earlier try whose answer was lost, or a new
        one, which is on disk before anybody hears of it."""
        directory = self.credentials.directory
        if directory is not None:
            path = directory / JOINING_FILE
            try:
                self._joining_key = path.read_text(encoding="utf-8")
                signing_request(self._joining_key)
            except (OSError, UnicodeDecodeError, Invalid):
                self._joining_key = new_key()
                write_atomic(path, self._joining_key.encode(), mode=0o600)
        self._joining_key = self._joining_key or new_key()
        return self._joining_key

    def _forget_key(self) -> None:
        self._joining_key = ""
        if self.credentials.directory is not None:
            (self.credentials.directory / JOINING_FILE).unlink(missing_ok=True)

    # ------------------------------------------------------------ what comes back

    def _check(self, enrolled: _Enrolled, key: str) -> None:
        """Refuse an answer that is not for us; raises Invalid."""
        facts = facts_of(enrolled.certificate)
        self._check_id(facts.id)
        if facts.id.trust_domain != enrolled.trust.trust_domain or not enrolled.trust.roots:
            raise Invalid("the control plane's answer contradicts itself.")
        if not belong_together(enrolled.certificate, key):
            raise Invalid("the control plane answered with a certificate for another key.")

    def _check_id(self, id: PeerId) -> None:
        if (id.role, id.name) != (self._role, self._name):
            raise Invalid(
                f"the certificate is of {id}, not of the {self._role.value} {self._name!r}.",
                hint="Use another --state-dir, or the right name.",
                reason="wrong-identity",
            )

    # ------------------------------------------------------------ calls

    async def _pinned_root(self) -> str:
        """Return the root (PEM) with the pinned digest; asked of whoever answers at the URL."""
        contact = self.contact
        sent = Sent(method="GET", path="/api/v1/trust", context=trusting_nobody())
        answer = await call(contact, sent)
        try:
            found = msgspec.json.decode(answer.data, type=_Trust)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise no_control_plane(contact) from None
        if root := pinned_root(found.roots, contact.pin):
            return root
        raise Unauthenticated(
            f"the control plane at {contact.url} does not have the root that --ca-pin names.",
            hint="Something else answers there, or the pin is of another federation: compare it.",
            reason="wrong-ca",
        )

    async def _ask(
        self, verb: str, document: object, context: ssl.SSLContext, trust_domain: str
    ) -> _Enrolled | None:
        """POST a document over a verified connection; None means: not yet."""
        sent = Sent(
            method="POST",
            path=f"/api/v1/{verb}",
            context=context,
            server_name=control_plane_dns_name(trust_domain),
            document=document,
        )
        answer = await call(self.contact, sent)
        if answer.status == 202:
            return None
        try:
            return msgspec.json.decode(answer.data, type=_Enrolled)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise no_control_plane(self.contact) from None
