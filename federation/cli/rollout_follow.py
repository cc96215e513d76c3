"""Following one rollout until it is over: drawn anew each second on a terminal.

Input: what to ask. Output: on a terminal one tree that is redrawn; elsewhere the tree whenever it
says something new; as JSON one {type, object} a line.
"""

import shutil
import sys
import time
from collections.abc import Callable

import click

from federation.cli.documents import Json, look
from federation.cli.output import Format, coloured, note, put, put_json
from federation.cli.rollout_tree import lines
from federation.contract.errors import DeadlineExceeded, Unavailable
from federation.runtime.clock import SystemClock

EVERY_S = 1.0
_UP_AND_CLEAR = "\x1b[{}A\x1b[J"


def follow(ask: Callable[[], Json], output: Format) -> Json:
    """Show the rollout again and again until it is over; returns what it was then."""
    known: Json | None = None
    drawn = 0
    for document in readings(ask):
        if output is Format.JSON:
            if document != known:
                kind = "ADDED" if known is None else "MODIFIED"
                put_json({"type": kind, "object": document}, one_line=True)
        elif sys.stdout.isatty():
            drawn = _redraw(document, drawn)
        elif known is None or essence(document) != essence(known):
            show_tree(document)
        known = document
        if look(document, "status", "over"):
            return document
    raise AssertionError("readings do not end")


def readings(ask: Callable[[], Json]) -> "Readings":
    """Return the document again and again; a control plane that is away is waited for."""
    return Readings(ask)


class Readings:
    """An iterator without end, a reading each second."""

    def __init__(self, ask: Callable[[], Json]) -> None:
        self._ask = ask
        self._first = True
        self._away = False

    def __iter__(self) -> "Readings":
        return self

    def __next__(self) -> Json:
        while True:
            if not self._first:
                _pause()
            self._first = False
            try:
                document = self._ask()
            except (Unavailable, DeadlineExceeded) as error:
                if not self._away:
                    note(f"{error.message} Trying again until Ctrl-C.")
                self._away = True
                continue
            self._away = False
            return document


def _pause() -> None:
    time.sleep(EVERY_S)


def show_tree(document: Json) -> None:
    """Print the tree once."""
    for line in _lines(document):
        put(line)


def _lines(document: Json) -> list[str]:
    unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    return lines(document, SystemClock().utc(), colour=coloured(), unicode=unicode)


def _redraw(document: Json, drawn: int) -> int:
    """Draw the tree over the last one; returns how many lines it has."""
    width = shutil.get_terminal_size().columns
    made = [
        line if len(click.unstyle(line)) < width else line[: width - 1] for line in _lines(document)
    ]
    if drawn:
        click.echo(_UP_AND_CLEAR.format(drawn), nl=False, color=True)
    for line in made:
        put(line)
    return len(made)


def essence(document: Json) -> object:
    """Return what is news in a rollout, without numbers that run all the time."""
    status = look(document, "status") or {}
    keys = ("phase", "pause", "wave", "step", "weights", "reason", "verdict")
    return [look(status, key) for key in keys]
