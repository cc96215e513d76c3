"""Verdicts in plain words: point values, limits and counts. Probabilities stay in the details.

Input: shares, latencies, counts. Output: parts of sentences.
"""

from federation.policy.analysis.limits import Metric

NAMES = {
    Metric.ERRORS: "errors",
    Metric.REFUSED: "refused requests",
    Metric.P95: "p95",
    Metric.SHADOW: "differing answers",
}


def percent(share: float, digits: int = 2) -> str:
    """Return a share as percent: 0.0339 -> "3.39 %"."""
    return f"{100 * share:.{digits}f} %"


def limit(share: float) -> str:
    """Return a limit as short as it was given: 0.01 -> "1 %", 0.0125 -> "1.25 %"."""
    return f"{round(100 * share, 2):g} %"


def change(ratio: float) -> str:
    """Return a ratio as a change: 1.38 -> "+38 %", 0.98 -> "−2 %"."""
    whole = round(100 * (ratio - 1))
    return f"{'−' if whole < 0 else '+'}{abs(whole):,} %"


def millis(ms: float) -> str:
    """Return a latency: "3.4 ms", "212 ms", "12.3 s"."""
    if ms >= 10_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def span(seconds: float) -> str:
    """Return a span as people say it: "40 s", "6 min", "3 h"."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"


def about(seconds: float | None) -> str:
    """Return " (about 6 min at this rate)", or nothing if nobody can tell."""
    return "" if seconds is None else f" (about {span(seconds)} at this rate)"


def listed(names: list[str]) -> str:
    """Return names as a list for people, not longer than three of them."""
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return ", ".join(names)
