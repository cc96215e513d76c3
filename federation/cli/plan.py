"""`fed plan`: what a deployment would change, before it does.

Input: a YAML file with deployments (or, from `fed deploy --dry-run`, one made of flags). Output:
what the control plane decided on a copy of what it knows, as tables.
"""

from collections.abc import Iterator

import click

from federation.cli.apply import read_files
from federation.cli.cells import duration, shown, size
from federation.cli.client import ApiClient
from federation.cli.documents import Json, Wanted, body, look, look_list
from federation.cli.options import output_option
from federation.cli.output import Format, Table, clean, coloured, put, put_value
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import Invalid


@command("plan")
@click.option(
    "-f",
    "--filename",
    "files",
    metavar="FILE",
    required=True,
    multiple=True,
    help="YAML file with deployments, '-' for stdin; may be repeated.",
)
@output_option(formats=(Format.TABLE, Format.JSON, Format.YAML))
@pass_session
def plan(session: Session, files: tuple[str, ...], output: Format) -> None:
    """Show where a deployment would go, what would stop, and why the rest cannot have it.

    Also: the bytes that would travel to each region, and how long that takes. Nothing is changed.
    Each deployment is planned for itself, as if it was applied now.

    \b
    Example:
      fed plan -f deployment.yaml
      fed get deployment filetype -o yaml | fed plan -f -
    """
    wanted = read_files(files)
    for one in wanted:
        if one.kind.name != "Deployment":
            raise Invalid(
                f"{one.source}: {one.title} is no deployment, only these are planned.",
                hint="Check the others with: fed apply -f FILE --dry-run",
            )
    with session.client() as client:
        show_plans([ask(client, one) for one in wanted], output)


_TITLES = ("", "CLUSTER", "REGION", "VERSION", "REPLICAS", "BYTES", "WHY")
REGION_TITLES = ("REGION", "CLUSTERS", "BYTES", "FROM-ORIGIN", "BYTES-THERE-IN")


def ask(client: ApiClient, wanted: Wanted) -> Json:
    """Return what the control plane would do; raises its refusal."""
    content = body(wanted.kind, wanted.name, wanted.spec, wanted.resource_version)
    return client.send("POST", "api", "v1", "plan", content=content)


def show_plans(plans: list[Json], output: Format) -> None:
    """Print plans."""
    for index, each in enumerate(plans):
        if output in (Format.JSON, Format.YAML):
            if output is Format.YAML and index:
                put("---")
            put_value(each, output)
            continue
        if output is Format.NAME:
            put(f"deployment/{look(each, 'deployment')}")
            continue
        if index:
            put("")
        for line in lines(each):
            put(line)


def lines(plan: Json) -> Iterator[str]:
    """Yield a plan as people read it."""
    what = "new" if look(plan, "created") else "changed"
    model, version = shown(look(plan, "model")), shown(look(plan, "version"))
    name = clean(shown(look(plan, "deployment")))
    yield f"deployment/{name} ({what}): model {clean(model)}, version {version}"
    if rows := [*_rows(plan)]:
        yield from Table(_TITLES, rows).lines(colour=coloured())
    else:
        yield "nothing changes, and no cluster serves it"
    if regions := look_list(plan, "regions"):
        yield ""
        rows = [region_row(each) for each in regions]
        yield from Table(REGION_TITLES, rows).lines(colour=coloured())
    for words in (*look_list(plan, "others"), *look_list(plan, "notes")):
        yield f"note: {clean(shown(words))}"


def _rows(plan: Json) -> Iterator[tuple[str, ...]]:
    for each in look_list(plan, "place"):
        count = size(int(look(each, "bytes") or 0))
        bytes_told = count if look(each, "exact") else f"up to {count}"
        yield ("place", *_version(each), bytes_told, shown(look(each, "assumes")))
    for bucket in ("keep", "stop"):
        for each in look_list(plan, bucket):
            yield (bucket, *_version(each), "", shown(look(each, "reason")))
    for each in look_list(plan, "cannot"):
        where = (shown(look(each, "cluster")), shown(look(each, "region")))
        yield ("cannot", *where, "", "", "", shown(look(each, "reason")))


def _version(row: Json) -> tuple[str, ...]:
    return tuple(shown(look(row, key)) for key in ("cluster", "region", "version", "replicas"))


def region_row(region: Json) -> tuple[str, ...]:
    """Return the cells of what would travel to a region."""
    eta_s = look(region, "eta_s")
    return (
        shown(look(region, "region")),
        shown(look(region, "clusters")),
        size(int(look(region, "bytes") or 0)),
        size(int(look(region, "from_origin_bytes") or 0)),
        "unknown" if eta_s is None else duration(float(eta_s)),
    )
