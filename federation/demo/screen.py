"""What the demo prints: steps with their seconds, aligned tables, lines that overwrite themselves.

Input: words and numbers. Output: text on a stream; colour and movement only on a terminal.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

import click

from federation.runtime.clock import Clock, SystemClock

_NAME_WIDTH = 26
_CLEAR_BELOW = "\x1b[0J"


class Screen:
    """Where the demo tells its story."""

    def __init__(self, stream: TextIO | None = None, *, clock: Clock | None = None) -> None:
        self.stream = stream or sys.stdout
        self._clock = clock or SystemClock()
        self._started_s = self._clock.monotonic_s()
        self._drawn = 0
        quiet = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        self.moving = self.stream.isatty() and not quiet

    def __repr__(self) -> str:
        return f"Screen(moving={self.moving})"

    def elapsed_s(self) -> float:
        """Return the seconds since the screen was made."""
        return self._clock.monotonic_s() - self._started_s

    def line(self, text: str = "") -> None:
        """Print a line."""
        click.echo(text, file=self.stream, color=self.moving)
        self.stream.flush()

    def step(self, name: str, detail: str = "", *, ok: bool = True) -> None:
        """Print that a step is done, and when."""
        mark = click.style("✓", fg="green") if ok else click.style("✗", fg="red")
        self.line(f"  {mark} {self.elapsed_s():6.1f} s  {name:<{_NAME_WIDTH}}  {detail}".rstrip())

    def note(self, text: str) -> None:
        """Print something that the user should know."""
        self.line(f"  {click.style('!', fg='yellow')} {text}")

    def table(self, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print an aligned table."""
        for line in table_lines(titles, rows):
            self.line(line)

    def redraw(self, lines: Sequence[str]) -> None:
        """Replace the lines of the last redraw; does nothing where nothing may move."""
        if not self.moving:
            return
        up = f"\x1b[{self._drawn}A\r" if self._drawn else ""
        self.stream.write(f"{up}{_CLEAR_BELOW}" + "".join(f"{line}\n" for line in lines))
        self.stream.flush()
        self._drawn = len(lines)


def table_lines(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table's lines, columns aligned, without trailing blanks."""
    whole = [list(titles), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    return [
        "  "
        + "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in whole
    ]
