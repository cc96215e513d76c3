"""Keys: made, rotated and revoked; and who the caller is.

Input: admins; for the last, anyone with credentials. Output: events for the control loop; the text
of a key, which is shown here once and kept nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from aiohttp import web

from federation.api.bodies import converted, idempotency, read_document, reply
from federation.api.documents import Key, Metadata
from federation.api.resources import Removed, Submitter
from federation.api.route import ANYBODY_KNOWN, Route, actor, caller_of, flag, needs
from federation.api.watch import revision_asked_for
from federation.contract.access import Grant
from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.names import check_name
from federation.contract.resources import API_VERSION
from federation.contract.strict_yaml import Document
from federation.identity.tokens import TokenKind, derive, digest, mint
from federation.policy import lookup
from federation.policy.access.events import KeyCreated
from federation.policy.access.records import KeyKind
from federation.policy.access.roles import Verb
from federation.policy.events import Idempotency, ObjectRemoved

_TOKENS: Mapping[KeyKind, TokenKind] = {
    KeyKind.USER: TokenKind.USER,
    KeyKind.INFERENCE: TokenKind.INFERENCE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key to make: for a tenant (inference), or with grants (this API)."""

    tenant: str = ""
    grants: tuple[Grant, ...] = ()
    expiresAt: datetime | None = None  # noqa: N815


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """A key to give a new text. Without `expiresAt` it expires when it would have."""

    expiresAt: datetime | None = None  # noqa: N815


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A key and its text: the only time that it is shown."""

    key: Key
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Whoami:
    """Who the caller is, as the audit log names it, and what it may do."""

    name: str
    grants: tuple[Grant, ...]


class Keys:
    """The handlers of the verbs below /api/v1/keys, and of /api/v1/whoami.

    `token_key` is a secret of this control plane: with it, a repeated call (same Idempotency-Key)
    gets the same text again, although only its digest was kept.
    """

    def __init__(self, submitter: Submitter, *, token_key: str) -> None:
        self._submitter = submitter
        self._token_key = token_key

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        one = "/api/v1/keys/{name}"
        return [
            Route(
                method="GET",
                path="/api/v1/whoami",
                summary="Tell who the caller is",
                handler=self._whoami,
                needs=ANYBODY_KNOWN,
                answer=Whoami,
            ),
            Route(
                method="POST",
                path=one,
                summary="Make a key and get its text, once",
                handler=self._create,
                needs=needs(Verb.WRITE, "Key"),
                body=NewKey,
                answer=Shown,
                status=201,
                errors=(Invalid, NotFound, Conflict),
            ),
            Route(
                method="POST",
                path=f"{one}/rotate",
                summary="Give a key a new text; the old one is void at once",
                handler=self._rotate,
                needs=needs(Verb.ROTATE, "Key"),
                body=Rotation,
                answer=Shown,
                errors=(Invalid, NotFound, Conflict),
            ),
            Route(
                method="DELETE",
                path=one,
                summary="Revoke a key at once",
                handler=self._revoke,
                needs=needs(Verb.DELETE, "Key"),
                answer=Removed,
                queries={
                    "dryRun": "true = check and answer, but change nothing",
                    "resourceVersion": "revoke it only if it is still at this version",
                },
                errors=(Invalid, NotFound, Conflict),
            ),
        ]

    async def _whoami(self, request: web.Request) -> web.Response:
        caller = caller_of(request)
        return reply(Whoami(name=caller.name, grants=caller.grants))

    async def _create(self, request: web.Request) -> web.Response:
        name = check_name("key", request.match_info["name"])
        body = await read_document(request)
        new = converted(body, NewKey)
        event = KeyCreated(
            actor=actor(request),
            id=name,
            kind=KeyKind.INFERENCE if new.tenant else KeyKind.USER,
            digest="",
            tenant=new.tenant,
            grants=new.grants,
            expires_at=_moment(new.expiresAt),
        )
        return await self._show(request, event, body, status=201)

    async def _rotate(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        body = await read_document(request)
        rotation = converted(body, Rotation)
        event = KeyCreated(
            actor=actor(request),
            id=name,
            kind=lookup.find("Key", self._submitter.state.keys, name).kind,
            digest="",
            expires_at=_moment(rotation.expiresAt),
            rotate=True,
        )
        return await self._show(request, event, body, status=200)

    async def _show(
        self, request: web.Request, event: KeyCreated, body: Document, *, status: int
    ) -> web.Response:
        key = idempotency(request, body)
        text = self._text(event, key)
        made = digest(self._submitter.state.pepper, text)
        state, _ = await self._submitter.submit(
            replace(event, digest=made), caller=caller_of(request), key=key
        )
        record = state.keys.get(event.id)
        if record is None or record.digest != made:
            raise Conflict(
                f"key {event.id!r} was rotated or revoked since this call was first answered.",
                hint=f"Get a new text: fed key rotate {event.id}",
            )
        document = self._submitter.document(state, "Key", event.id)
        response = reply({"key": document, "text": text}, status=status)
        response.headers["Cache-Control"] = "no-store"
        return response

    def _text(self, event: KeyCreated, key: Idempotency | None) -> str:
        kind = _TOKENS[event.kind]
        if key is None:
            return mint(kind, event.id)
        purpose = f"{event.actor} {key.key} {key.fingerprint}"
        return derive(kind, event.id, key=self._token_key, purpose=purpose)

    async def _revoke(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        event = ObjectRemoved(
            actor=actor(request), kind="Key", name=name, expected=revision_asked_for(request)
        )
        await self._submitter.submit(
            event,
            caller=caller_of(request),
            key=idempotency(request),
            dry_run=flag(request, "dryRun"),
        )
        return reply(Removed(apiVersion=API_VERSION, kind="Key", metadata=Metadata(name=name)))


def _moment(given: datetime | None) -> datetime | None:
    """Return a moment in UTC; raises Invalid for one that names no zone."""
    if given is None:
        return None
    if given.tzinfo is None:
        raise Invalid("expiresAt names no time zone.", hint="Write it like 2030-01-31T00:00:00Z.")
    return given.astimezone(UTC)
