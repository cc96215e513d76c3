"""How `fed` prints: tables, JSON, YAML, names; colour only where a person looks.

Input: documents and columns. Output: text on stdout for data, on stderr for everything else. Text
that came from elsewhere is stripped of control characters before a terminal sees it.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import click

from federation.cli.documents import Json


class Format(StrEnum):
    """What `-o` can be."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, how a document fills it, and whether only `wide` shows it."""

    title: str
    cell: Callable[[Json, datetime], str]
    wide: bool = False


_COLOURS = {
    "True": "green",
    "False": "red",
    "warmed": "green",
    "failed": "red",
    "draining": "yellow",
    "cordoned": "yellow",
}


def coloured(file: object = None) -> bool:
    """Return whether to colour what goes to `file` (stdout): a terminal that shows colours."""
    stream = file or sys.stdout
    isatty = getattr(stream, "isatty", None)
    if "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        return False
    return bool(isatty and isatty())


def clean(text: str) -> str:
    """Return `text` on one line, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


class Table:
    """Rows under titles. The widths are fixed by the first rows, so that later rows can follow."""

    def __init__(self, titles: Sequence[str], rows: Iterable[Sequence[str]] = ()) -> None:
        self._titles = list(titles)
        self._rows = [[clean(cell) or "-" for cell in row] for row in rows]
        columns = zip(self._titles, *self._rows, strict=True)
        self._widths = [max(map(len, column)) for column in columns]

    def __repr__(self) -> str:
        return f"Table({self._titles}, rows={len(self._rows)})"

    def lines(self, *, colour: bool) -> list[str]:
        """Return the titles and the rows, aligned."""
        head = self._line(self._titles, colour=False)
        return [click.style(head, bold=True) if colour else head] + [
            self._line(row, colour=colour) for row in self._rows
        ]

    def line(self, row: Sequence[str], *, colour: bool) -> str:
        """Return one more row, aligned as those before it."""
        return self._line([clean(cell) or "-" for cell in row], colour=colour)

    def _line(self, row: Sequence[str], *, colour: bool) -> str:
        cells = []
        for index, (cell, width) in enumerate(zip(row, self._widths, strict=True)):
            padded = cell if index == len(row) - 1 else cell.ljust(width)
            shade = _COLOURS.get(cell) if colour else None
            cells.append(click.style(padded, fg=shade) if shade else padded)
        return "   ".join(cells).rstrip()


def put(text: str) -> None:
    """Write one line of data to stdout, now."""
    click.echo(text, color=True)
    sys.stdout.flush()


def note(text: str) -> None:
    """Write one line for a person to stderr."""
    click.echo(clean(text), err=True)


def put_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    for line in Table(titles, rows).lines(colour=coloured()):
        put(line)


def put_json(value: object, *, one_line: bool = False) -> None:
    """Print JSON, indented or as one line."""
    put(json.dumps(value, indent=None if one_line else 2, ensure_ascii=False))


def put_yaml(value: object) -> None:
    """Print YAML, with the keys in the order of the document."""
    import yaml

    put(yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip())


def put_value(value: object, output: Format) -> None:
    """Print a value as JSON or YAML."""
    if output is Format.YAML:
        put_yaml(value)
    else:
        put_json(value)
