"""`fed region`: named places.

Input: a name and a location. Output: a PUT of the region; the list of regions.
"""

from dataclasses import replace

import click

from federation.cli.apply import apply_one, find
from federation.cli.documents import Wanted, live_spec
from federation.cli.get import show
from federation.cli.lazy import LazyGroup
from federation.cli.options import dry_run_option, output_option, watch_option
from federation.cli.output import Format, put
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import AlreadyExists
from federation.contract.names import check_name
from federation.contract.resources import KINDS, RegionSpec
from federation.contract.types import Location

_KIND = next(kind for kind in KINDS if kind.plural == "regions")

region = LazyGroup(
    "region",
    {
        "create": (f"{__name__}:create", "Create a region."),
        "list": (f"{__name__}:list_regions", "List the regions."),
        "freeze": (f"{__name__}_freeze:freeze", "Set when rollouts keep still there."),
    },
    help="Create and list regions; set when they are frozen.",
    epilog="\b\nExample:\n  fed region create eu-west --location 53.3,-6.3",
)


class LocationType(click.ParamType[Location]):
    """LATITUDE,LONGITUDE in degrees."""

    name = "lat,lon"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Return the Location."""
        if isinstance(value, Location):
            return value
        try:
            latitude, longitude = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no location; write LATITUDE,LONGITUDE: 53.3,-6.3.", param, ctx)
        if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
            self.fail(
                f"{value!r} is not on Earth: latitude -90 to 90, longitude -180 to 180.", param, ctx
            )
        return Location(latitude=latitude, longitude=longitude)


@command("create")
@click.argument("name")
@click.option(
    "--location", type=LocationType(), required=True, metavar="LAT,LON", help="Where it is."
)
@dry_run_option
@pass_session
def create(session: Session, name: str, location: Location, dry_run: bool) -> None:
    """Create a region.

    \b
    Example:
      fed region create eu-west --location 53.3,-6.3
    """
    spec = RegionSpec(location=location)
    wanted = Wanted(
        kind=_KIND,
        name=check_name("region", name),
        spec=spec,
        resource_version=None,
        source="--location",
    )
    with session.client() as client:
        live = find(client, wanted)
        held = live_spec(_KIND, live) if live is not None else spec
        if isinstance(held, RegionSpec) and held.location == location:
            wanted = replace(wanted, spec=held)  # with its freeze windows
        else:
            raise AlreadyExists(
                f"region {name!r} exists already, at another location.",
                hint="To move it, change it in a file and use `fed apply`.",
            )
        outcome, _ = apply_one(client, wanted, dry_run=dry_run)
    put(f"{wanted.title} {outcome}{' (server dry run)' if dry_run else ''}")


@command("list")
@output_option()
@watch_option
@pass_session
def list_regions(session: Session, output: Format, watch: bool) -> None:
    """List the regions.

    \b
    Example:
      fed region list
    """
    show(session, _KIND, "", output, watch=watch)
