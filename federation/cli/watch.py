"""Watching a kind of objects for as long as the user likes.

Input: the SSE stream of the operator API. Output: Change values; a broken stream is resumed from
the last revision seen, with a note on stderr.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from federation.cli.client import ApiClient
from federation.cli.documents import Json, look, look_list, name_of
from federation.cli.output import note
from federation.contract.errors import Unavailable
from federation.contract.resources import Kind
from federation.runtime.backoff import Backoff

_TYPES = ("ADDED", "MODIFIED", "DELETED")


@dataclass(frozen=True, slots=True)
class Change:
    """ADDED, MODIFIED or DELETED, and the document (of a deleted object: its name only)."""

    type: str
    document: Json


Printer = Callable[[Change], None]


class _FellBehind(Exception):
    """The control plane forgot changes that this watcher has not seen: it must list again."""


def watch_kind(client: ApiClient, kind: Kind, listed: Json, items: list[Json]) -> Iterator[Change]:
    """Yield, without end, the changes after a list or document (`listed`) with `items` was read."""
    revision, behind = _revision(listed), False
    known = {name_of(item) for item in items}
    backoff, dice, failures = Backoff(), random.Random(), 0  # noqa: S311 - jitter only
    while True:
        try:
            if behind:
                listed = client.get("api", "v1", kind.plural)
                for change in _caught_up(kind, look_list(listed, "items"), known):
                    _remember(known, change)
                    yield change
                revision, behind = _revision(listed), False
            for change, seen in _stream(client, kind, revision):
                failures, revision = 0, seen or revision
                _remember(known, change)
                yield change
        except _FellBehind:
            behind = True
        except Unavailable as error:
            failures += 1
            if failures == 1:
                note(f"{error.message} Trying again until Ctrl-C.")
            time.sleep(backoff.delay_s(failures, dice))


def _revision(document: Json) -> str:
    return str(look(document, "metadata", "resourceVersion") or "")


def _remember(known: set[str], change: Change) -> None:
    if change.type == "DELETED":
        known.discard(name_of(change.document))
    else:
        known.add(name_of(change.document))


def _caught_up(kind: Kind, items: list[Json], known: set[str]) -> list[Change]:
    """Return what a fresh list tells of the changes that were missed."""
    names = {name_of(item) for item in items}
    gone = [Change("DELETED", {"metadata": {"name": name}}) for name in sorted(known - names)]
    if kind.plural == "events":  # they never change, and old ones are forgotten, not deleted
        return [Change("ADDED", item) for item in items if name_of(item) not in known]
    return gone + [
        Change("MODIFIED" if name_of(item) in known else "ADDED", item) for item in items
    ]


def _stream(client: ApiClient, kind: Kind, revision: str) -> Iterator[tuple[Change, str]]:
    """Yield changes and the revision of each; raises Unavailable when the stream ends."""
    query = {"watch": "true"} | ({"resourceVersion": revision} if revision else {})
    for event in client.changes("api", "v1", kind.plural, last_id=revision, **query):
        if event.event in _TYPES:
            yield Change(event.event, _decoded(event.data)), event.id
        elif event.event == "ERROR":
            raise _FellBehind
    raise Unavailable("the control plane ended the watch.")


def _decoded(data: str) -> Json:
    try:
        document = json.loads(data)
    except ValueError:
        raise Unavailable("the control plane sent a change that is no JSON.") from None
    return document if isinstance(document, dict) else {}
