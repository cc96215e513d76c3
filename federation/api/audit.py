"""The audit log, page by page, and its head.

Input: admins who read. Output: entries as they are stored, with their hashes: this module does not
judge them, those who verify do (`fed audit verify`, or anybody with SHA-256). Nothing here changes
the log; entries come from the control loop alone.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from federation.api.bodies import reply
from federation.api.route import Route, needs
from federation.contract.errors import Invalid
from federation.policy.access.roles import Verb
from federation.policy.audit.chain import line, moment, parse
from federation.policy.audit.records import AuditOutcome, Head
from federation.store.base import AuditQuery, Store

MAX_LIMIT = 1_000
_NUMBER = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedAct:
    """One change or denial. `hash` is SHA-256 over all other keys as JSON, sorted and without
    spaces; `previous` is the hash of the entry before it."""

    id: int
    at: datetime
    actor: str
    source: str
    action: str
    kind: str
    name: str
    outcome: AuditOutcome
    reason: str
    message: str
    request_id: str
    count: int
    previous: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """Entries, oldest first. Ask again with `after` = `next` for those that follow; there are none
    now if it is equal to what was asked for."""

    entries: tuple[AuditedAct, ...]
    next: int


class AuditLog:
    """The handlers of /api/v1/audit."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="GET",
                path="/api/v1/audit",
                summary="Read the audit log, page by page",
                handler=self._page,
                needs=needs(Verb.READ, "Audit", ""),
                answer=AuditPage,
                queries={
                    "after": "only entries with a higher number",
                    "limit": f"at most so many entries, 1 to {MAX_LIMIT}",
                    "actor": "only what this caller did: user/ada",
                    "kind": "only what was about objects of this kind: Cluster",
                    "since": "only what happened at or after this time: 2026-01-01T00:00:00Z",
                },
                errors=(Invalid,),
            ),
            Route(
                method="GET",
                path="/api/v1/audit/head",
                summary="Read number and hash of the newest entry; keep it to detect a cut log",
                handler=self._head,
                needs=needs(Verb.READ, "Audit", ""),
                answer=Head,
            ),
        ]

    async def _page(self, request: web.Request) -> web.Response:
        query = _query(request.query)
        lines = await asyncio.to_thread(self._store.read_audit, query)
        # A line that somebody made unreadable comes as an empty entry: it will not verify. No other
        # writer of JSON touches the lines: it might stumble over what somebody put there.
        entries = ",".join(line(parse(each.json)) for each in lines)
        following = lines[-1].id if lines else query.after
        body = f'{{"entries":[{entries}],"next":{following}}}'.encode()
        return web.Response(body=body, content_type="application/json")

    async def _head(self, _: web.Request) -> web.Response:
        return reply(await asyncio.to_thread(self._store.audit_head))


def _query(asked: Mapping[str, Any]) -> AuditQuery:
    """Return what is asked for; raises Invalid."""
    limit = _number(asked, "limit", MAX_LIMIT)
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be 1 to {MAX_LIMIT}.")
    return AuditQuery(
        after=_number(asked, "after", 0),
        limit=limit,
        actor=asked.get("actor", ""),
        kind=asked.get("kind", ""),
        since=_moment(asked.get("since", "")),
    )


def _number(asked: Mapping[str, Any], name: str, default: int) -> int:
    text = asked.get(name, str(default))
    if not _NUMBER.fullmatch(text):
        raise Invalid(f"{name} must be a number, not {text[:32]!r}.")
    return int(text)


def _moment(text: str) -> str:
    """Return a time as entries have it; raises Invalid."""
    if not text:
        return ""
    try:
        at = datetime.fromisoformat(text)
        told = moment(at) if at.tzinfo else ""
    except (ValueError, OverflowError):
        told = ""
    if not told:
        raise Invalid(
            f"since must be a time with its zone, not {text[:40]!r}.",
            hint="Like 2026-01-01T00:00:00Z (in a URL, + is written %2B).",
        )
    return told
