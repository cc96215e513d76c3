"""`fed audit`: who changed what, and who was turned away; read, exported, verified.

Input: the pages of the operator API's audit log, or a file that was exported before. Output: a
table or JSON lines on stdout. `verify` computes every hash itself and believes no number of the
control plane: what it needs for that is in `federation.policy.audit.chain`.
"""

import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from typing import IO, Any

import click

from federation.cli.client import ApiClient
from federation.cli.documents import Json, look, look_list
from federation.cli.options import output_option
from federation.cli.output import Format, Table, coloured, note, put
from federation.cli.session import Session, command, global_options, pass_session
from federation.contract.errors import FederationError, Invalid
from federation.policy.audit import chain
from federation.policy.audit.records import START, Head
from federation.runtime.clock import SystemClock

LAST = 50
EVERY_S = 1.0
_BACK = re.compile(r"(\d{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_HASH = re.compile(r"(?:sha256:)?([0-9a-f]{64})")

_TITLES = ["ID", "AT", "ACTOR", "SOURCE", "ACTION", "OBJECT", "OUTCOME", "MESSAGE"]
_WIDE = [*_TITLES[:-1], "REASON", "REQUEST", "HASH", "MESSAGE"]


class BrokenLog(FederationError):
    """The audit log is not what was written."""

    reason = "audit-broken"


class Reader:
    """Reads the log page by page; `after` is where the next page starts."""

    def __init__(self, client: ApiClient, *, after: int = 0, **wanted: str) -> None:
        self._client = client
        self._wanted = {name: value for name, value in wanted.items() if value}
        self.after = after

    def __repr__(self) -> str:
        return f"Reader(after={self.after}, {self._wanted})"

    def rest(self) -> Iterator[Json]:
        """Yield all entries that are there now and were not read yet."""
        while True:
            page = self._client.get("api", "v1", "audit", after=str(self.after), **self._wanted)
            yield from look_list(page, "entries")
            following = look(page, "next")
            if not isinstance(following, int) or following <= self.after:
                return
            self.after = following


def _since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    """Return a time as the API takes it, for a length of time or a time."""
    if not (back := _BACK.fullmatch(value or "")):
        return value or ""
    try:
        at = SystemClock().utc() - timedelta(**{_UNITS[back[2]]: int(back[1])})
    except OverflowError:
        return ""
    return chain.moment(at)


@click.group("audit", invoke_without_command=True)
@click.option("-f", "--follow", is_flag=True, help="Keep reading until Ctrl-C.")
@click.option(
    "--since", metavar="TIME", callback=_since, help="90s, 2h, 7d, or 2026-01-01T00:00:00Z."
)
@click.option("--actor", metavar="WHO", default="", help="What one caller did, like user/ada.")
@click.option("--kind", default="", help="What was about objects of one kind, like Cluster.")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    help=f"Only the newest so many.  [default: {LAST}, or all if you ask for some]",
)
@output_option(formats=(Format.TABLE, Format.WIDE, Format.JSON))
@pass_session
@click.pass_context
def audit(
    ctx: click.Context,
    session: Session,
    follow: bool,
    since: str,
    actor: str,
    kind: str,
    last: int | None,
    output: Format,
) -> None:
    """Show the audit log: every change, and everybody who was turned away.

    \b
    Example:
      fed audit --since 24h
      fed audit --actor user/ada -o json
      fed audit verify
    """
    if ctx.invoked_subcommand is not None:
        return
    asked = bool(since or actor or kind)
    keep = last or (None if asked else LAST)
    with session.client() as client:
        after = 0 if asked else max(0, _head(client).id - (keep or 0))
        reader = Reader(client, after=after, actor=actor, kind=kind, since=since)
        show = _Printer(output, deque(reader.rest(), maxlen=keep))
        while follow:
            time.sleep(EVERY_S)
            show(reader.rest())


audit.params += global_options(hidden=True)


class _Printer:
    """Prints entries; the first ones set the widths of the table."""

    def __init__(self, output: Format, first: Iterable[Json]) -> None:
        self._output = output
        first = list(first)
        titles = _WIDE if output is Format.WIDE else _TITLES
        self._table = Table(titles, [self._row(entry) for entry in first])
        if output is not Format.JSON:
            put(self._table.lines(colour=coloured())[0])
        self(first)

    def __call__(self, entries: Iterable[Json]) -> None:
        for entry in entries:
            if self._output is Format.JSON:
                put(chain.line(entry))
            else:
                put(self._table.line(self._row(entry), colour=coloured()))

    def _row(self, entry: Json) -> list[str]:
        def told(key: str) -> str:
            return str(entry.get(key, ""))

        count = entry.get("count")
        times = f" ({count} times)" if isinstance(count, int) and count > 1 else ""
        object_ = f"{told('kind').lower()}/{told('name')}" if told("kind") else told("name")
        cells = [told("id"), told("at")[:19] + "Z", told("actor"), told("source")]
        cells += [told("action"), object_, told("outcome")]
        if self._output is Format.WIDE:
            cells += [told("reason"), told("request_id"), told("hash")]
        return [*cells, told("message") + times]


def _head(client: ApiClient) -> Head:
    found = client.get("api", "v1", "audit", "head")
    return Head(id=int(look(found, "id") or 0), hash=str(look(found, "hash") or ""))


# ------------------------------------------------------------ export and verify


@command("export")
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False))
@pass_session
def export(session: Session, file: str) -> None:
    """Write the whole log to FILE ('-' = stdout), one entry a line, as it is stored.

    \b
    Example:
      fed audit export audit.jsonl
      fed audit verify --file audit.jsonl
    """
    count, newest = 0, ""
    with ExitStack() as stack:
        client = stack.enter_context(session.client())
        out = sys.stdout if file == "-" else stack.enter_context(_created(file))
        for entry in Reader(client).rest():
            out.write(f"{chain.line(entry)}\n")
            count, newest = count + 1, str(entry.get("hash", ""))
    note(f"{count} entries; the hash of the newest: {newest or START.hash}")


def _created(file: str) -> IO[str]:
    """Open a file for us alone: the log tells who works when, and from where."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise Invalid(f"cannot write {file}: {error.strerror}.") from None
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass")


def _expected(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    if value is None:
        return ""
    if not (match := _HASH.fullmatch(value.strip().lower())):
        raise click.BadParameter("a hash has 64 hexadecimal digits.")
    return match[1]


@command("verify")
@click.option("--file", metavar="FILE", help="Verify an exported log instead ('-' = stdin).")
@click.option(
    "--expect",
    metavar="HASH",
    callback=_expected,
    help="A hash that `fed audit verify` printed before: the log must still hold it.",
)
@pass_session
def verify(session: Session, file: str | None, expect: str) -> None:
    """Compute the chain of hashes anew; exit code 1 names the first entry that does not fit.

    Whoever can write the control plane's database can also compute a new chain. So keep the hash
    that this prints where they cannot write, and give it to the next run with --expect.

    \b
    Example:
      fed audit verify
      fed audit verify --expect 3b1f...
      fed audit verify --file audit.jsonl --expect 3b1f...
    """
    with ExitStack() as stack:
        if file is None:
            client = stack.enter_context(session.client())
            head = _head(client)
            entries: Iterable[Mapping[str, Any]] = Reader(client).rest()
        else:
            head = START
            entries = _lines(stack.enter_context(_opened(file)))
        found = verified(entries, head=head, expect=expect)
    put(f"{found.id} entries, as they were written. Newest hash: {found.hash}")


def verified(entries: Iterable[Mapping[str, Any]], *, head: Head = START, expect: str = "") -> Head:
    """Return the head of a log that holds `head` and the hash `expect`; raises BrokenLog."""
    awaited = {each for each in (head.hash if head.id else "", expect) if each}
    if expect == START.hash:
        awaited.discard(expect)

    def seen() -> Iterator[Mapping[str, Any]]:
        for entry in entries:
            awaited.discard(str(entry.get("hash", "")))
            yield entry

    verdict = chain.verify(seen())
    if isinstance(verdict, chain.Broken):
        raise BrokenLog(
            f"the audit log is broken at entry {verdict.id}: {verdict.why}.",
            hint="All entries before it are as they were written.",
        )
    if head.hash in awaited and head.id:
        raise BrokenLog(
            f"the audit log is broken at entry {verdict.id + 1}: it ends before it, "
            f"but the control plane wrote {head.id} entries.",
            hint="Its end was cut off, or rewritten.",
        )
    if awaited:
        raise BrokenLog(
            f"no entry of the {verdict.id} has the expected hash {expect}.",
            hint="The log was cut before that entry, or rewritten as a whole.",
        )
    return verdict


def _opened(file: str) -> IO[str]:
    if file == "-":
        return sys.stdin
    try:
        return open(file, encoding="utf-8", errors="surrogateescape")  # closed by the caller
    except OSError as error:
        raise Invalid(f"cannot read {file}: {error.strerror}.") from None


def _lines(file: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for text in file:
        if text.strip():
            yield chain.parse(text)


audit.add_command(export)
audit.add_command(verify)
