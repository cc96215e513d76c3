"""How far a long transfer is: one line on stderr that is written over and over.

Input: bytes as they are done. Output: amount, share, rate and the time that is left, for a person
at a terminal; nothing in a pipe.
"""

import sys
from types import TracebackType

import click

from federation.cli.cells import duration, size
from federation.runtime.clock import Clock, SystemClock

_EVERY_S = 0.1
_SETTLE_S = 1.0  # a rate over less than this says nothing


class Progress:
    """Counts bytes of `total`; a context manager that clears its line at the end."""

    def __init__(self, label: str, total: int, clock: Clock | None = None) -> None:
        self.done = 0
        self._label = label
        self._total = total
        self._clock = clock or SystemClock()
        self._started_s = self._clock.monotonic_s()
        self._shown_s = float("-inf")
        self._visible = total > 0 and sys.stderr.isatty()

    def __repr__(self) -> str:
        return f"Progress({self.line()})"

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._visible:
            click.echo("\r\x1b[K", err=True, nl=False)

    def add(self, count: int) -> None:
        """Note that so many more bytes are done."""
        self.done += count
        now_s = self._clock.monotonic_s()
        if self._visible and now_s - self._shown_s >= _EVERY_S:
            self._shown_s = now_s
            click.echo(f"\r\x1b[K{self.line()[:100]}", err=True, nl=False)

    def line(self) -> str:
        """Return what is shown."""
        share = self.done * 100 // self._total if self._total else 100
        text = f"{self._label} {size(self.done)} of {size(self._total)}  {share}%"
        spent_s = self._clock.monotonic_s() - self._started_s
        if spent_s < _SETTLE_S or not self.done:
            return text
        rate = self.done / spent_s
        left_s = max(0, self._total - self.done) / rate
        return f"{text}  {size(int(rate))}/s  {duration(left_s)} left"
