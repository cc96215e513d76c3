"""What the model runs on: real round trips, real arrivals, and fleets that are made up.

Input: the files in `data` (see its README), and the demo's round trips. Output: fleets and streams
of requests. Round trips and arrivals are measured; which region a request comes from, what a token
costs and what the fleets look like is ours.
"""

import csv
import gzip
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from federation.demo.geography import load_geography

DATA = Path(__file__).with_name("data")
PREFILL_MS, DECODE_MS = 0.1, 5.0  # a token, at speed 1
NEAR_S = 0.0005  # round trip inside a region


@dataclass(frozen=True, slots=True)
class Site:
    """One cluster: `slots` requests at once, at `speed`."""

    region: int
    slots: int
    speed: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """Regions with their share of the demand, and clusters; one router in each region."""

    name: str
    regions: tuple[str, ...]
    demand: tuple[float, ...]
    sites: tuple[Site, ...]

    def rtt_s(self) -> list[list[float]]:
        """Return the round trip from each region's router to each cluster."""
        matrix = round_trips()
        between = [
            [NEAR_S if a == b else max(matrix[a, b] / 1000, NEAR_S) for b in self.regions]
            for a in self.regions
        ]
        return [[row[site.region] for site in self.sites] for row in between]

    @property
    def capacity(self) -> float:
        """How many seconds of work a second it can do."""
        return sum(site.slots * site.speed for site in self.sites)


@cache
def round_trips() -> Mapping[tuple[str, str], float]:
    """Return the measured round trips in ms, by source and destination."""
    return load_geography().rtt_ms


def _fleet(name: str, regions: list[str], demand: list[float], sites: list[Site]) -> Fleet:
    whole = sum(demand)
    return Fleet(name, tuple(regions), tuple(d / whole for d in demand), tuple(sites))


def fleets() -> dict[str, Fleet]:
    """Return the fleets by name."""
    five = ["eastus", "westus2", "westeurope", "southeastasia", "brazilsouth"]
    dozen = [
        *("eastus", "westus2", "southcentralus", "canadacentral", "brazilsouth", "northeurope"),
        *("westeurope", "uksouth", "centralindia", "southeastasia", "japaneast", "australiaeast"),
    ]
    every = sorted({a for a, _ in round_trips()})
    dice = random.Random(46)
    return {
        "five": _fleet(
            "five",
            five,
            [0.42, 0.18, 0.22, 0.12, 0.06],
            [Site(r, 4, 1.0 if k % 2 == 0 else 0.5) for r in range(5) for k in range(8)],
        ),
        "dozen": _fleet(
            "dozen",
            dozen,
            [5, 2, 1, 1, 1, 1, 4, 2, 3, 2, 2, 1],
            [
                Site(r, slots, speed)
                for r in range(12)
                for slots, speed in ((16, 1.0), (8, 0.7), (4, 0.4))
            ],
        ),
        "edge": _fleet(
            "edge",
            every,
            [1 / (1 + i % 12) for i in range(len(every))],
            [Site(r, 4, dice.choice([1.0, 0.7, 0.5])) for r in range(len(every))],
        ),
        "hub": _fleet(
            "hub",
            ["eastus", "westeurope", "centralus"],
            [1, 2, 1],
            [Site(0, 64, 1.0), Site(1, 16, 1.0), Site(1, 8, 0.5), Site(2, 8, 1.0)],
        ),
    }


def _rows(name: str) -> Iterator[tuple[float, int, int]]:
    with gzip.open(DATA / f"{name}.csv.gz", "rt", newline="") as file:
        for row in csv.DictReader(file):
            at = row.get("arrival_s") or row.get("arrival_ms") or "0"
            scale = 1.0 if "arrival_s" in row else 1000.0
            yield float(at) / scale, int(row["input_tokens"]), int(row["output_tokens"])


@cache
def _trace(name: str) -> list[tuple[float, float]]:
    """Return arrivals in seconds, each with its work in seconds at speed 1."""
    if name == "tensor":
        dice = random.Random(1)
        at, made = 0.0, []
        for _ in range(20_000):
            at += dice.expovariate(1.0)
            made.append((at, dice.lognormvariate(-0.125, 0.5) * 0.120))
        return made
    found = [
        (at, (read * PREFILL_MS + max(written, 1) * DECODE_MS) / 1000)
        for at, read, written in _rows(name)
    ]
    if name.startswith("mooncake"):  # stamped every few seconds: spread inside
        dice = random.Random(3)
        found = sorted((at + dice.random() * 3.0, work) for at, work in found)
    return sorted(found)


TRACES = {
    "tensor": "tensor",
    "conv": "azure_llm_2023_conv",
    "code": "azure_llm_2023_code",
    "mooncake": "mooncake_conversation",
}


def arrivals(
    trace: str, fleet: Fleet, load: float, count: int, seed: int
) -> list[tuple[float, int, float]]:
    """Return (when, from which region, work in seconds) of `count` requests, with the trace's own
    gaps, sped up until the fleet's load is `load`."""
    rows = _trace(TRACES[trace])
    dice = random.Random(seed)
    start = dice.randrange(max(len(rows) - count, 1))
    rows = rows[start : start + count]
    work = sum(w for _, w in rows)
    span = (rows[-1][0] - rows[0][0]) or 1.0
    wanted = work / (load * fleet.capacity)
    regions = range(len(fleet.regions))
    origin = dice.choices(regions, fleet.demand, k=len(rows))
    return [
        ((at - rows[0][0]) / span * wanted, region, w)
        for (at, w), region in zip(rows, origin, strict=True)
    ]
