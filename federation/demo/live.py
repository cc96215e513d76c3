"""The load's table, drawn again every second.

Input: a running Load. Output: lines for the screen: the last seconds by region, then all so far.
"""

import asyncio

from federation.demo.load import Load
from federation.demo.load_stats import Summary, grouped, summarize, within
from federation.demo.screen import Screen, table_lines

_WINDOW_S = 3.0
TITLES = ("", "REQUESTS", "PER S", "P50", "P99", "FAILED", "FAILED OVER", "SENT AGAIN")


async def follow(load: Load, screen: Screen) -> None:
    """Draw until cancelled; without a terminal there is nothing to see."""
    while screen.moving:
        await asyncio.sleep(1)
        screen.redraw(picture(load))


def picture(load: Load) -> list[str]:
    """Return the lines of one picture."""
    now_s = load.elapsed_s()
    recent = within(load.outcomes, now_s - _WINDOW_S, now_s)
    rows = [
        row(region, summary, _WINDOW_S)
        for region, summary in grouped(recent, lambda outcome: outcome.region).items()
    ]
    rows.append(row("last seconds", summarize(recent), _WINDOW_S))
    rows.append(row("all", summarize(load.outcomes), now_s))
    head = f"  {now_s:5.0f} s   {load.in_flight} requests in flight"
    return [head, *table_lines(TITLES, rows)]


def row(name: str, summary: Summary, seconds: float) -> tuple[str, ...]:
    """Return a summary as cells."""
    return (
        name,
        str(summary.requests),
        f"{summary.requests / max(seconds, 0.001):.1f}",
        f"{summary.p50_ms:.0f} ms",
        f"{summary.p99_ms:.0f} ms",
        str(summary.failed),
        str(summary.failed_over),
        str(summary.sent_again),
    )
