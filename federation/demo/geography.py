"""Where things are and how far apart: the demo's picture of the world.

Input: the CSV files in `data/` (real measurements; see data/README.txt). Output: the place of each
cloud region, round trip times between two of them, and clients with real addresses.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from federation.contract.types import Location

_EARTH_RADIUS_KM = 6371.0


@dataclass(frozen=True, slots=True)
class Client:
    """A network of clients: an address inside it, its continent and its place."""

    address: str
    continent: str
    location: Location


@dataclass(frozen=True, slots=True)
class Geography:
    """All places. `rtt_ms` holds the round trip in milliseconds by (source, destination)."""

    locations: Mapping[str, Location]
    rtt_ms: Mapping[tuple[str, str], float]
    clients: tuple[Client, ...]

    def __repr__(self) -> str:
        return f"Geography({len(self.locations)} regions, {len(self.clients)} client networks)"


def load_geography() -> Geography:
    """Read the bundled files."""
    return Geography(
        locations={
            row["region"]: Location(latitude=float(row["lat"]), longitude=float(row["lon"]))
            for row in _rows("azure_regions.csv")
        },
        rtt_ms={
            (row["source"], destination): float(value)
            for row in _rows("azure_rtt_matrix.csv")
            for destination, value in row.items()
            if destination != "source"
        },
        clients=tuple(_client(row) for row in _rows("clients.csv")),
    )


def _rows(name: str) -> list[dict[str, str]]:
    text = (files("federation.demo") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _client(row: Mapping[str, str]) -> Client:
    # Any host of the /24 will do; nothing is ever sent there.
    address = row["prefix24"].rsplit(".", 1)[0] + ".77"
    place = Location(latitude=float(row["lat"]), longitude=float(row["lon"]))
    return Client(address, row["continent"], place)


def distance_km(a: Location, b: Location) -> float:
    """Return the length of the great circle between two points."""
    lat_a, lat_b = math.radians(a.latitude), math.radians(b.latitude)
    half_lat = (lat_b - lat_a) / 2
    half_lon = math.radians(b.longitude - a.longitude) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    return 2 * _EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))
