"""`fed describe`: all about one object, in sections that a person can read.

Input: the object's document and the newest events about it. Output: text on stdout.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

import click

from federation.cli.cells import age, duration, parse_time, shown, size
from federation.cli.documents import Json, look, look_list, look_map, name_of
from federation.cli.hardware import calibration, capacity_lines, hardware_of
from federation.cli.load import percent, replicas_of
from federation.cli.options import Target, TargetType, names_of_target
from federation.cli.output import Table, clean, coloured, put
from federation.cli.rollout_tree import lines
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import Invalid
from federation.runtime.clock import SystemClock

_EVENTS = 10
_REPLICAS = ["CLUSTER", "REGION", "VERSION", "STATE", "REPLICAS", "BUSY", "REASON"]
_TABLES = {
    "conditions": ("type", "status", "reason", "message"),
    "versions": (
        "version",
        "model",
        "state",
        "digest",
        "runtime",
        "protocol",
        "size",
        "source",
        "created_at",
        "replicas",
        "in_flight",
        "queued",
        "rate",
        "latency_ms",
        "calibration",
        "reason",
    ),
    "cannot": ("cluster", "reason"),
    "clusters": ("cluster", "region", "state", "ready", "done_bytes", "reason"),
    "windows": ("start", "end", "days", "max_mbytes_per_second"),
}
# Mappings whose keys are names, not words of ours.
_FREE = frozenset({"labels", "cluster_labels", "aliases", "gpu_products", "rtt_ms", "clusters"})


@command("describe")
@click.argument("target", metavar="KIND", type=TargetType())
@click.argument("name", required=False, shell_complete=names_of_target)
@pass_session
def describe(session: Session, target: Target, name: str | None) -> None:
    """Tell all about one object: its spec, its status, its last events.

    \b
    Example:
      fed describe cluster eu-west
      fed describe deployment/filetype
    """
    wanted = target.required(name)
    if target.kind.plural == "events":
        raise Invalid("an event cannot be described.", hint="Use `fed events -o yaml`.")
    with session.client() as client:
        document = client.get("api", "v1", target.kind.plural, wanted)
        hardware = hardware_of(client, wanted) if target.kind.name == "Cluster" else {}
        listed = client.get("api", "v1", "events")
    about = [
        event
        for event in look_list(listed, "items")
        if look(event, "status", "kind") == target.kind.name
        and look(event, "status", "name") == wanted
    ]
    now = SystemClock().utc()
    for line in sections(document, about[-_EVENTS:], now, hardware):
        put(line)


def sections(
    document: Json, events: list[Json], now: datetime, hardware: Mapping[str, Table] | None = None
) -> Iterator[str]:
    """Yield the lines of the page; `hardware` are tables of their own, by title."""
    yield f"{'Name:':<14}{name_of(document)}"
    yield f"{'Kind:':<14}{shown(look(document, 'kind'))}"
    if created := age(document, now):
        at = shown(look(document, "metadata", "createdAt"))
        yield f"{'Created:':<14}{at} ({created} ago)"
    if generation := look(document, "metadata", "generation"):
        yield f"{'Generation:':<14}{generation}"
    for part in ("spec", "status"):
        values = look_map(document, part)
        if part == "status" and look(document, "kind") == "Rollout":
            yield "Status:"
            yield from (f"  {line}" for line in lines(document, now, colour=coloured()))
        elif values:
            yield f"{part.capitalize()}:"
            yield from _values(values, indent=2)
    for title, table in (hardware or {}).items():
        yield f"{title}:"
        yield from _indented(table, 2)
    yield "Events:" if events else "Events:       none"
    if events:
        rows = [_event_row(event, now) for event in events]
        yield from _indented(Table(["AGE", "REASON", "ACTOR", "MESSAGE"], rows), 2)


def _event_row(event: Json, now: datetime) -> list[str]:
    at = parse_time(look(event, "status", "at"))
    return [
        duration((now - at).total_seconds()) if at else "",
        shown(look(event, "status", "reason")),
        shown(look(event, "status", "actor")),
        shown(look(event, "status", "message")),
    ]


def _values(values: Json, indent: int, *, free: bool = False) -> Iterator[str]:
    """Yield a line for each value; `free` = the keys are a user's words, shown as they are."""
    margin = " " * indent
    for key, value in values.items():
        title = clean(key) if free else clean(key).replace("_", " ").capitalize()
        label = f"{margin}{title}:"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield label
            if key == "clusters" and "versions" in value[0]:
                yield from _replicas(value, indent + 2)
            else:
                yield from _indented(_table(key, value), indent + 2)
        elif key == "capacity" and isinstance(value, dict):
            yield label
            yield from (f"{margin}  {line}" for line in capacity_lines(value))
        elif isinstance(value, dict) and value:
            yield label
            yield from _values(value, indent + 2, free=key in _FREE)
        else:
            yield f"{label:<23} {clean(_plain(key, value)) or '-'}"


def _plain(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if (key == "size" or key.endswith("_bytes")) and isinstance(value, int):
        return size(value)
    if key == "calibration":
        return calibration(value)
    if isinstance(value, float):
        return f"{value:.1f}"
    return shown(value)


def _table(key: str, rows: list[Json]) -> Table:
    present = {name for each in rows for name in each}
    known = [name for name in _TABLES.get(key, ()) if name in present]
    names = known + sorted(present - set(known))
    titles = [name.replace("_", "-").upper() for name in names]
    return Table(titles, [[_plain(name, each.get(name)) for name in names] for each in rows])


def _replicas(clusters: list[Json], indent: int) -> Iterator[str]:
    """The versions of a deployment at each cluster, as one table."""
    rows = [
        [
            shown(look(cluster, "cluster")),
            shown(look(cluster, "region")),
            shown(look(version, "version")),
            shown(look(version, "state")),
            replicas_of(version),
            percent(look(version, "busy")),
            shown(look(version, "reason")),
        ]
        for cluster in clusters
        for version in look_list(cluster, "versions") or [{}]
    ]
    yield from _indented(Table(_REPLICAS, rows), indent)


def _indented(table: Table, indent: int) -> Iterator[str]:
    for line in table.lines(colour=coloured()):
        yield " " * indent + line
