"""`fed cluster sync`: how a cluster fetches models, and when.

Input: a cluster's name and flags. Output: a PUT of the cluster; what no flag names stays as it is.
Without flags, what holds now.
"""

from dataclasses import replace

import click

from federation.cli.apply import apply_one
from federation.cli.documents import Json, Wanted, live_spec, look, plain
from federation.cli.options import dry_run_option, names_of, output_option
from federation.cli.output import Format, put, put_value
from federation.cli.session import Session, command, pass_session
from federation.contract.resources import KINDS, ClusterSpec
from federation.contract.sync import SyncSpec, SyncWindow
from federation.contract.sync_rules import check_sync, parse_window, window_text

_KIND = next(kind for kind in KINDS if kind.plural == "clusters")
_AMOUNT = click.FloatRange(min=0)


@command("sync")
@click.argument("name", shell_complete=names_of("clusters"))
@click.option("--max-mbytes-per-second", type=_AMOUNT, help="Cap on the wide area; 0 = none.")
@click.option("--peer-max-mbytes-per-second", type=_AMOUNT, help="Cap in the region; 0 = none.")
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="[DAYS] HH:MM-HH:MM [MB/S]",
    help='When it may fetch, may be repeated: "mon-fri 22:00-06:00"; "" = always.',
)
@click.option("--time-zone", metavar="ZONE", help="Of the windows, like Europe/Dublin.")
@click.option("--disk-budget-gib", type=_AMOUNT, help="What packages may take; 0 = the disk.")
@click.option(
    "--rollback-waits/--rollback-at-once",
    default=None,
    help="Whether a rollback waits for a window, too.",
)
@dry_run_option
@output_option(formats=(Format.TABLE, Format.JSON, Format.YAML))
@pass_session
def sync(
    session: Session,
    name: str,
    max_mbytes_per_second: float | None,
    peer_max_mbytes_per_second: float | None,
    windows: tuple[str, ...],
    time_zone: str | None,
    disk_budget_gib: float | None,
    rollback_waits: bool | None,
    dry_run: bool,
    output: Format,
) -> None:
    """Set how a cluster fetches models: bandwidth, windows of time, disk. It holds at once.

    \b
    Example:
      fed cluster sync edge-7
      fed cluster sync edge-7 --max-mbytes-per-second 20 --disk-budget-gib 200
      fed cluster sync edge-7 --window "mon-fri 22:00-06:00" --window "sat,sun 00:00-00:00" \\
        --time-zone Europe/Dublin
      fed cluster sync edge-7 --window ""
    """
    said: Json = {
        "max_mbytes_per_second": max_mbytes_per_second,
        "peer_max_mbytes_per_second": peer_max_mbytes_per_second,
        "windows": _windows(windows) if windows else None,
        "time_zone": time_zone,
        "disk_budget_gib": disk_budget_gib,
        "rollback_waits": rollback_waits,
    }
    changes = {key: value for key, value in said.items() if value is not None}
    with session.client() as client:
        live = client.get("api", "v1", _KIND.plural, name)
        held = live_spec(_KIND, live)
        if not isinstance(held, ClusterSpec):
            raise TypeError(held)
        spec, outcome = held.sync, ""
        if changes:
            spec = check_sync(replace(held.sync, **changes))
            wanted = Wanted(
                kind=_KIND,
                name=name,
                spec=replace(held, sync=spec),
                resource_version=look(live, "metadata", "resourceVersion"),
                source="the command line",
            )
            outcome, _ = apply_one(client, wanted, dry_run=dry_run)
    if output in (Format.JSON, Format.YAML):
        put_value(plain(spec), output)
        return
    if outcome:
        put(f"cluster/{name} {outcome}{' (server dry run)' if dry_run else ''}")
        return
    for label, value in _told(spec):
        put(f"{label + ':':<20}{value}")


def _windows(texts: tuple[str, ...]) -> tuple[SyncWindow, ...]:
    return tuple(parse_window(text) for text in texts if text.strip())


def _told(spec: SyncSpec) -> list[tuple[str, str]]:
    def cap(rate: float) -> str:
        return f"{rate:g} MB/s" if rate else "no cap"

    windows = "; ".join(map(window_text, spec.windows))
    return [
        ("Wide area", cap(spec.max_mbytes_per_second)),
        ("In the region", cap(spec.peer_max_mbytes_per_second)),
        ("Windows", f"{windows} ({spec.time_zone})" if windows else "at any time"),
        ("Disk budget", f"{spec.disk_budget_gib:g} GiB" if spec.disk_budget_gib else "the disk"),
        ("Rollbacks", "wait for a window" if spec.rollback_waits else "never wait for a window"),
    ]
