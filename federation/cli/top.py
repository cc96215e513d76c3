"""`fed top`: what is busy now, the busiest first: clusters, GPUs, models.

Input: the operator API's clusters and devices, asked for again each second with --watch. Output: a
table, or JSON.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from federation.cli.cells import text
from federation.cli.client import ApiClient
from federation.cli.documents import Json, look, look_list, look_map, name_of
from federation.cli.live import follow
from federation.cli.load import amount, condition_words, gib, latency, of, percent
from federation.cli.options import output_option, watch_option
from federation.cli.output import Column, Format, Table, coloured, note, put, put_value
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import Invalid
from federation.runtime.clock import SystemClock

_FORMATS = (Format.TABLE, Format.WIDE, Format.JSON, Format.YAML)


@dataclass(frozen=True, slots=True)
class View:
    """One thing to look at: where its rows come from, what they are known by, how they are shown;
    `load` is what they are sorted by."""

    ask: Callable[[ApiClient, str], list[Json]]
    key: tuple[str, ...]
    load: tuple[str, ...]
    columns: tuple[Column, ...]


def _clusters(client: ApiClient, cluster: str) -> list[Json]:
    return [_cluster_row(document) for document in _documents(client, cluster)]


def _cluster_row(document: Json) -> Json:
    capacity = look_map(document, "status", "capacity")
    versions = look_list(document, "status", "versions")
    return {
        "cluster": name_of(document),
        "region": look(document, "spec", "region"),
        "ready": look(document, "status", "ready"),
        "gpus": look(document, "status", "gpus"),
        "unhealthy": capacity.get("unhealthy"),
        "units": capacity.get("units"),
        "utilization": capacity.get("utilization"),
        "memory_used_mib": capacity.get("memory_used_mib"),
        "memory_mib": capacity.get("memory_mib"),
        "power_w": capacity.get("power_w"),
        "models": look_map(document, "status", "models").get("warm"),
        "in_flight": sum(look(v, "in_flight") or 0 for v in versions),
        "queued": _queued(versions),
        "rate": round(sum(look(v, "rate") or 0 for v in versions), 2),
        "reason": condition_words(document),
    }


def _gpus(client: ApiClient, cluster: str) -> list[Json]:
    query = {"cluster": cluster} if cluster else {}
    return look_list(client.get("api", "v1", "devices", **query), "items")


def _models(client: ApiClient, cluster: str) -> list[Json]:
    """Return one row for each version that is warm or has requests, over all clusters."""
    found: dict[tuple[str, int], list[Json]] = {}
    for document in _documents(client, cluster):
        for seen in look_list(document, "status", "versions"):
            if look(seen, "state") == "warmed" or look(seen, "in_flight"):
                found.setdefault((look(seen, "model"), look(seen, "version")), []).append(seen)
    return [_model_row(model, version, rows) for (model, version), rows in sorted(found.items())]


def _model_row(model: str, version: int, rows: Sequence[Json]) -> Json:
    measured = [each for each in rows if look(each, "calibration")]
    capable = sum(look(each, "calibration", "per_second") for each in measured)
    units = {look(each, "calibration", "unit") for each in measured}
    rate = sum(look(each, "rate") or 0 for each in rows)
    timed = sum((look(each, "rate") or 0) * (look(each, "latency_ms") or 0) for each in rows)
    load = None
    if capable and units == {"inferences"} and len(measured) == len(rows):
        load = round(rate / capable, 3)
    elif units == {"tokens"} and len(measured) == len(
        rows
    ):  # of text only what is in flight can be compared
        at_once = sum(look(each, "calibration", "concurrency") for each in measured)
        load = round(sum(look(each, "in_flight") or 0 for each in rows) / max(at_once, 1), 3)
    return {
        "model": model,
        "version": version,
        "clusters": len(rows),
        "replicas": sum(look(each, "replicas") or 0 for each in rows),
        "in_flight": sum(look(each, "in_flight") or 0 for each in rows),
        "queued": _queued(rows),
        "rate": round(rate, 2),
        "latency_ms": round(timed / rate, 2) if rate else 0,
        "capable_per_second": round(capable, 2) if capable else None,
        "unit": units.pop() if len(units) == 1 else "",
        "load": load,
    }


def _queued(rows: Sequence[Json]) -> int | None:
    """Return how many requests wait in the engines that can tell; None if none can."""
    known = [count for each in rows if (count := look(each, "queued")) is not None]
    return sum(known) if known else None


def _documents(client: ApiClient, cluster: str) -> list[Json]:
    if cluster:
        return [client.get("api", "v1", "clusters", cluster)]
    return look_list(client.get("api", "v1", "clusters"), "items")


def _units(row: Json, _now: object) -> str:
    units = look_map(row, "units")
    return of(units.get("free"), units.get("allocatable"))


def _capable(row: Json, _now: object) -> str:
    per_second = look(row, "capable_per_second")
    unit = look(row, "unit") or "units"
    return f"{amount(per_second)} {unit}/s" if per_second else ""


def _health(row: Json, _now: object) -> str:
    return "ok" if look(row, "healthy") else "sick"


_UTIL = Column("UTIL", lambda row, _now: percent(look(row, "utilization")))
_MEMORY = Column("MEMORY-GIB", gib("memory_used_mib", "memory_mib"))
_IN_FLIGHT = Column("IN-FLIGHT", text("in_flight"))
_QUEUED = Column("QUEUED", text("queued"))
_RATE = Column("REQ/S", lambda row, _now: amount(look(row, "rate")))
_REASON = Column("REASON", text("reason"))

VIEWS = {
    "clusters": View(
        _clusters,
        ("cluster",),
        ("utilization", "in_flight", "rate"),
        (
            Column("CLUSTER", text("cluster")),
            Column("REGION", text("region")),
            Column("READY", text("ready")),
            Column("GPUS", text("gpus")),
            Column("FREE", _units),
            _UTIL,
            _MEMORY,
            Column("MODELS", text("models")),
            _IN_FLIGHT,
            _QUEUED,
            _RATE,
            Column("POWER-W", text("power_w"), wide=True),
            Column("WAITING", text("units", "waiting"), wide=True),
            _REASON,
        ),
    ),
    "gpus": View(
        _gpus,
        ("cluster", "node", "id"),
        ("utilization", "memory_used_mib"),
        (
            Column("CLUSTER", text("cluster")),
            Column("NODE", text("node")),
            Column("GPU", text("id")),
            Column("PRODUCT", text("product")),
            _UTIL,
            _MEMORY,
            Column("TEMP-C", lambda row, _now: amount(look(row, "temperature_c"))),
            Column("POWER-W", lambda row, _now: amount(look(row, "power_w"))),
            Column("HEALTH", _health),
            Column("PROFILE", text("profile"), wide=True),
            Column("PART-OF", text("parent"), wide=True),
            Column("SOURCE", text("source"), wide=True),
            _REASON,
        ),
    ),
    "models": View(
        _models,
        ("model", "version"),
        ("load", "rate", "in_flight"),
        (
            Column("MODEL", text("model")),
            Column("VERSION", text("version")),
            Column("CLUSTERS", text("clusters")),
            Column("REPLICAS", text("replicas")),
            _IN_FLIGHT,
            _QUEUED,
            _RATE,
            Column("LATENCY", lambda row, _now: latency(look(row, "latency_ms"))),
            Column("CAN-DO", _capable),
            Column("LOAD", lambda row, _now: percent(look(row, "load"))),
        ),
    ),
}


@command("top")
@click.argument("what", metavar="WHAT", type=click.Choice(sorted(VIEWS)))
@click.option("--cluster", default="", help="Only of this cluster.")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Show so many; 0 = all.")
@output_option(formats=_FORMATS)
@watch_option
@pass_session
def top(session: Session, what: str, cluster: str, limit: int, output: Format, watch: bool) -> None:
    """Show what is busy now, the busiest first: clusters, gpus or models.

    FREE is the units that new workloads could get, of those that could be handed out. REQ/S and
    LATENCY (median) are those of the last ten seconds. CAN-DO is what was measured after warm-up.

    \b
    Example:
      fed top clusters
      fed top gpus --cluster eu-west --watch
      fed top models -o json
    """
    if watch and output is Format.YAML:
        raise Invalid("--watch cannot print YAML.", hint="Use -o json: one object a line.")
    view = VIEWS[what]
    with session.client() as client:
        if watch:
            fitting = limit or (0 if output is Format.JSON else _height())
            follow(
                lambda: _ranked(view, view.ask(client, cluster), fitting),
                lambda rows: _table(view, rows, output),
                lambda row: tuple(look(row, key) for key in view.key),
                output,
            )
            return
        rows = _ranked(view, view.ask(client, cluster), limit)
    if output in (Format.JSON, Format.YAML):
        put_value({"items": rows}, output)
    elif rows:
        for line in _table(view, rows, output).lines(colour=coloured()):
            put(line)
    else:
        note(f"No {what} are known yet.")


def _ranked(view: View, rows: list[Json], limit: int) -> list[Json]:
    """Return the busiest rows first; what is not known counts as less than nothing."""

    def load(row: Json) -> tuple[float, ...]:
        values = (look(row, key) for key in view.load)
        return tuple(1.0 if value is None else -float(value) for value in values)

    ranked = sorted(rows, key=load)
    return ranked[:limit] if limit else ranked


def _table(view: View, rows: list[Json], output: Format) -> Table:
    columns = [column for column in view.columns if output is Format.WIDE or not column.wide]
    now = SystemClock().utc()
    cells = [[column.cell(row, now) for column in columns] for row in rows]
    return Table([column.title for column in columns], cells)


def _height() -> int:
    """How many rows a terminal shows below the titles."""
    return max(shutil.get_terminal_size().lines - 2, 5)
