"""Tables of numbers that move: asked for again each second, drawn anew on a terminal.

Input: what to ask, how to make a table of the rows, and what a row is known by. Output: on a
terminal one table that is redrawn; elsewhere, and as JSON, a line for each row that changed.
"""

import sys
import time
from collections.abc import Callable, Iterator

import click

from federation.cli.documents import Json
from federation.cli.output import Format, Table, coloured, note, put, put_json
from federation.contract.errors import DeadlineExceeded, Unavailable

EVERY_S = 1.0
_UP_AND_CLEAR = "\x1b[{}A\x1b[J"


def follow(
    ask: Callable[[], list[Json]],
    table: Callable[[list[Json]], Table],
    key: Callable[[Json], object],
    output: Format,
) -> None:
    """Show the rows again and again until Ctrl-C."""
    known: dict[object, Json] = {}
    drawn = 0
    for rows in _readings(ask):
        if output is not Format.JSON and _is_terminal():
            lines = table(rows).lines(colour=coloured())
            if drawn:
                click.echo(_UP_AND_CLEAR.format(drawn), nl=False, color=True)
            for line in lines:
                put(line)
            drawn = len(lines)
            continue
        changed = [row for row in rows if known.get(key(row)) != row]
        if output is Format.JSON:
            for row in changed:
                kind = "MODIFIED" if key(row) in known else "ADDED"
                put_json({"type": kind, "object": row}, one_line=True)
        elif changed:
            lines = table(changed).lines(colour=False)
            for line in lines[1:] if known else lines:
                put(line)
        known = {key(row): row for row in rows}


def _pause() -> None:
    time.sleep(EVERY_S)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _readings(ask: Callable[[], list[Json]]) -> Iterator[list[Json]]:
    """Yield the rows again and again; a control plane that is away for a moment is waited for."""
    away = False
    while True:
        try:
            yield ask()
            away = False
        except (Unavailable, DeadlineExceeded) as error:
            if not away:
                note(f"{error.message} Trying again until Ctrl-C.")
            away = True
        _pause()
