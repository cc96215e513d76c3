"""`fed get sync`: how far each model version is at each cluster, once or as it moves.

Input: the operator API's list of transfers, asked for again each second with --watch. Output: a
table that is drawn anew on a terminal; elsewhere, and as JSON, a line for each row that changed.
"""

from datetime import datetime

from federation.cli.cells import duration, shown, size, text
from federation.cli.client import ApiClient
from federation.cli.documents import Json, look, look_list
from federation.cli.live import follow
from federation.cli.output import Column, Format, Table, coloured, note, put, put_value
from federation.cli.session import Session
from federation.contract.errors import Invalid
from federation.contract.resources import Kind
from federation.runtime.clock import SystemClock

# No kind of resource: nobody wrote these rows, and no row can be named.
SYNC = Kind("Sync", "sync", ("transfers",), None)


def _done(row: Json, _now: datetime) -> str:
    done, total = look(row, "done_bytes") or 0, look(row, "total_bytes") or 0
    if not total:
        return ""
    if done >= total:
        return size(total)
    return f"{size(done)} of {size(total)} ({100 * done // total}%)"


def _rate(row: Json, _now: datetime) -> str:
    rate = look(row, "bytes_per_second") or 0
    return f"{size(rate)}/s" if rate else ""


def _eta(row: Json, _now: datetime) -> str:
    seconds = look(row, "eta_s") or 0
    return duration(seconds) if seconds else ""


def _from(key: str, title: str, *, wide: bool = False) -> Column:
    return Column(title, lambda row, _now: size(look(row, key)) if look(row, key) else "", wide)


def _why(row: Json, _now: datetime) -> str:
    return "; ".join(filter(None, (shown(look(row, "waiting")), shown(look(row, "reason")))))


COLUMNS = (
    Column("MODEL", text("model")),
    Column("VERSION", text("version")),
    Column("CLUSTER", text("cluster")),
    Column("REGION", text("region"), wide=True),
    Column("STATE", text("state")),
    Column("URGENCY", text("urgency"), wide=True),
    Column("DONE", _done),
    Column("RATE", _rate),
    Column("ETA", _eta),
    _from("from_origin_bytes", "ORIGIN"),
    _from("from_peers_bytes", "PEERS"),
    _from("reused_bytes", "REUSED"),
    Column("WAITING", _why),
)


def show_sync(session: Session, model: str, output: Format, *, watch: bool) -> None:
    """Print the transfers (of one model, or of all); with `watch`, go on until Ctrl-C."""
    if watch and output is Format.YAML:
        raise Invalid("--watch cannot print YAML.", hint="Use -o json: one object a line.")
    if output is Format.NAME:
        raise Invalid("transfers have no names.", hint="Use -o json.")
    with session.client() as client:
        if watch:
            follow(
                lambda: look_list(_ask(client, model), "items"),
                lambda rows: _table(rows, output),
                _key,
                output,
            )
            return
        answer = _ask(client, model)
        if output in (Format.JSON, Format.YAML):
            put_value(answer, output)
        elif rows := look_list(answer, "items"):
            for line in _table(rows, output).lines(colour=coloured()):
                put(line)
        else:
            note("No cluster has, or fetches, any model yet.")


def _ask(client: ApiClient, model: str) -> Json:
    return client.get("api", "v1", "sync", **({"model": model} if model else {}))


def _table(rows: list[Json], output: Format) -> Table:
    columns = [column for column in COLUMNS if output is Format.WIDE or not column.wide]
    now = SystemClock().utc()
    cells = [[column.cell(row, now) for column in columns] for row in rows]
    return Table([column.title for column in columns], cells)


def _key(row: Json) -> tuple[object, ...]:
    return look(row, "model"), look(row, "version"), look(row, "cluster")
