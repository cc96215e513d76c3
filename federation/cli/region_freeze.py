"""`fed region freeze`: when no rollout begins anything in a region.

Input: a region's name and flags. Output: a PUT of the region; what no flag names stays as it is.
Without flags, what holds now.
"""

from dataclasses import replace

import click

from federation.cli.apply import apply_one
from federation.cli.documents import Json, Wanted, live_spec, look, plain
from federation.cli.options import dry_run_option, names_of, output_option
from federation.cli.output import Format, put, put_value
from federation.cli.session import Session, command, pass_session
from federation.contract.resources import KINDS, RegionSpec
from federation.contract.rollout_rules import check_freeze, freeze_text, parse_freeze

_KIND = next(kind for kind in KINDS if kind.plural == "regions")


@command("freeze")
@click.argument("name", shell_complete=names_of("regions"))
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="[DAYS] HH:MM-HH:MM",
    help='When it is frozen, may be repeated: "fri 16:00-00:00"; "" = never.',
)
@click.option("--time-zone", metavar="ZONE", help="Of the windows, like Europe/Dublin.")
@dry_run_option
@output_option(formats=(Format.TABLE, Format.JSON, Format.YAML))
@pass_session
def freeze(
    session: Session,
    name: str,
    windows: tuple[str, ...],
    time_zone: str | None,
    dry_run: bool,
    output: Format,
) -> None:
    """Set when rollouts keep still in a region, in its local time. It holds at once.

    In a freeze window no rollout begins a wave or a step there; what already has traffic keeps it,
    and a version that does worse goes back all the same.

    \b
    Example:
      fed region freeze eu-west
      fed region freeze eu-west --window "fri 16:00-00:00" --window "sat,sun 00:00-00:00" \\
        --time-zone Europe/Dublin
      fed region freeze eu-west --window ""
    """
    said: Json = {
        "freeze": tuple(parse_freeze(w) for w in windows if w.strip()) if windows else None,
        "time_zone": time_zone,
    }
    changes = {key: value for key, value in said.items() if value is not None}
    with session.client() as client:
        live = client.get("api", "v1", _KIND.plural, name)
        held = live_spec(_KIND, live)
        if not isinstance(held, RegionSpec):
            raise TypeError(held)
        spec, outcome = held, ""
        if changes:
            spec = replace(held, **changes)
            check_freeze(spec.freeze, spec.time_zone)
            wanted = Wanted(
                kind=_KIND,
                name=name,
                spec=spec,
                resource_version=look(live, "metadata", "resourceVersion"),
                source="the command line",
            )
            outcome, _ = apply_one(client, wanted, dry_run=dry_run)
    if output in (Format.JSON, Format.YAML):
        put_value({key: plain(spec)[key] for key in ("time_zone", "freeze")}, output)
    elif outcome:
        put(f"region/{name} {outcome}{' (server dry run)' if dry_run else ''}")
    else:
        told = "; ".join(map(freeze_text, spec.freeze))
        put(f"{'Frozen:':<20}{f'{told} ({spec.time_zone})' if told else 'never'}")
