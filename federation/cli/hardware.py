"""The devices and pools of a cluster, as tables for `fed describe cluster`.

Input: the operator API's lists of devices and pools. Output: tables by title.
"""

from collections.abc import Iterator

from federation.cli.cells import text
from federation.cli.client import ApiClient
from federation.cli.documents import Json, look, look_list, look_map
from federation.cli.load import amount, gib, latency, percent
from federation.cli.output import Column, Table, clean
from federation.contract.errors import NotFound
from federation.runtime.clock import SystemClock


def _health(row: Json, _now: object) -> str:
    return "ok" if look(row, "healthy") else "sick"


def _unit_memory(row: Json, _now: object) -> str:
    mib = look(row, "memory_mib")
    return f"{mib / 1024:.0f}" if mib else ""


DEVICES = (
    Column("NODE", text("node")),
    Column("ID", text("id")),
    Column("PRODUCT", text("product")),
    Column("PROFILE", text("profile")),
    Column("MEMORY-GIB", gib("memory_used_mib", "memory_mib")),
    Column("UTIL", lambda row, _now: percent(look(row, "utilization"))),
    Column("TEMP-C", lambda row, _now: amount(look(row, "temperature_c"))),
    Column("POWER-W", lambda row, _now: amount(look(row, "power_w"))),
    Column("HEALTH", _health),
    Column("REASON", text("reason")),
)
POOLS = (
    Column("NODE", text("node")),
    Column("RESOURCE", text("resource")),
    Column("PRODUCT", text("product")),
    Column("GIB-EACH", _unit_memory),
    Column("SHARING", text("sharing")),
    Column("PHYSICAL", text("physical")),
    Column("TOTAL", text("total")),
    Column("ALLOCATABLE", text("allocatable")),
    Column("FREE", text("free")),
    Column("OURS", text("ours")),
    Column("REASON", text("reason")),
)
_DROPPED = {"NODE", "PROFILE", "UTIL", "TEMP-C", "POWER-W", "REASON"}  # where all cells are empty


def hardware_of(client: ApiClient, cluster: str) -> dict[str, Table]:
    """Return the tables of a cluster, by title; what it has none of is not there."""
    tables = {}
    for title, columns in (("Devices", DEVICES), ("Pools", POOLS)):
        try:
            answer = client.get("api", "v1", title.lower(), cluster=cluster)
        except NotFound:  # an older control plane
            continue
        if rows := look_list(answer, "items"):
            tables[title] = _table(columns, rows)
    return tables


def _table(columns: tuple[Column, ...], rows: list[Json]) -> Table:
    now = SystemClock().utc()
    cells = [[column.cell(row, now) for row in rows] for column in columns]
    kept = [
        (column.title, texts)
        for column, texts in zip(columns, cells, strict=True)
        if any(texts) or column.title not in _DROPPED
    ]
    texts = [each for _, each in kept]
    return Table([title for title, _ in kept], [list(each) for each in zip(*texts, strict=True)])


def capacity_lines(capacity: Json) -> Iterator[str]:
    """Yield what a cluster has, in sum, in words."""
    units, now = look_map(capacity, "units"), SystemClock().utc()
    yield (
        f"{units.get('total', 0)} units, {units.get('allocatable', 0)} allocatable, "
        f"{units.get('free', 0)} free (at most {units.get('largest_block', 0)} on one node), "
        f"{units.get('ours', 0)} held by models"
    )
    if waiting := units.get("waiting"):
        yield f"{waiting} units are waited for by workloads of the cluster"
    if unhealthy := capacity.get("unhealthy"):
        yield f"{unhealthy} GPUs are sick"
    told = (
        ("memory in GiB", gib("memory_used_mib", "memory_mib")(capacity, now)),
        ("computing", percent(capacity.get("utilization"))),
        ("power in W", amount(capacity.get("power_w"))),
        ("seen", f"{amount(capacity.get('age_s'))} s ago" if capacity.get("age_s") else ""),
    )
    if line := ", ".join(f"{name} {text}" for name, text in told if text):
        yield line
    if reason := capacity.get("reason"):
        yield clean(str(reason))


def calibration(value: object) -> str:
    """Return what was measured of a version, in words."""
    told = look_map({"it": value}, "it")
    if not told:
        return ""
    return (
        f"{amount(told.get('per_second'))} {told.get('unit')}/s at {told.get('concurrency')} at "
        f"once, {latency(told.get('latency_ms'))}"
    )
