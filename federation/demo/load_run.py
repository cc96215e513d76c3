"""`fed demo load`: load on the running demo, from a terminal of its own.

Input: the note of the running demo, a rate, a duration. Output: a live table on a terminal, then a
summary by region, continent and kind, as text or JSON; the exit code: 1 if any request failed.
"""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from federation.contract.types import Location
from federation.demo.control import Json
from federation.demo.geography import load_geography
from federation.demo.live import TITLES, follow, row
from federation.demo.load import Load, RouterAt
from federation.demo.load_stats import Outcome, grouped, summarize
from federation.demo.payloads import load_mix
from federation.demo.screen import Screen
from federation.runtime.supervise import stop_on_signals

_GROUPS: dict[str, Callable[[Outcome], str]] = {
    "region": lambda outcome: outcome.region,
    "continent": lambda outcome: outcome.continent,
    "kind": lambda outcome: outcome.kind,
    "router": lambda outcome: outcome.router,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How much, for how long (0 = until Ctrl-C)."""

    rate: float
    duration_s: float
    as_json: bool = False
    seed: int = 1


async def run_load(state: Json, options: LoadOptions, screen: Screen) -> int:
    """Send the load and print what came of it; return the exit code."""
    routers = [
        RouterAt(router["name"], router["url"], Location(**router["location"]))
        for router in state["routers"]
    ]
    dice = random.Random(options.seed)  # noqa: S311 - load
    key = await asyncio.to_thread(Path(state["inference_key"]).read_text, "ascii")
    end_s = options.duration_s or float("inf")
    with stop_on_signals() as stop:
        async with Load(routers, load_geography().clients, load_mix(), dice, key=key) as load:
            drawing = asyncio.get_running_loop().create_task(follow(load, screen))
            await load.run(options.rate, lambda due_s: due_s < end_s and not stop.is_set())
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
            elapsed_s = load.elapsed_s()
    if options.as_json:
        screen.line(json.dumps(as_document(load.outcomes, elapsed_s), indent=2))
    else:
        _print(load.outcomes, elapsed_s, screen)
    return 1 if any(outcome.error for outcome in load.outcomes) else 0


def as_document(outcomes: list[Outcome], elapsed_s: float) -> Json:
    """Return the result for machines."""
    by = {
        name: {group: asdict(summary) for group, summary in grouped(outcomes, key).items()}
        for name, key in _GROUPS.items()
    }
    return {"seconds": round(elapsed_s, 3), "all": asdict(summarize(outcomes)), "by": by}


def _print(outcomes: list[Outcome], elapsed_s: float, screen: Screen) -> None:
    for name, key in _GROUPS.items():
        rows = [row(group, s, elapsed_s) for group, s in grouped(outcomes, key).items()]
        screen.line()
        screen.table((name.upper(), *TITLES[1:]), rows)
    whole = summarize(outcomes)
    screen.line()
    screen.table(("ALL", *TITLES[1:]), [row("", whole, elapsed_s)])
    for text, count in whole.errors.items():
        screen.note(f"{count} x {text}")
