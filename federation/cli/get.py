"""`fed get`: lists and single objects, once or as they change.

Input: KIND, NAME and flags; the operator API's list and watch. Output: a table, JSON, YAML or names
on stdout.
"""

import click
from click.shell_completion import CompletionItem

from federation.cli.columns import columns_of, row
from federation.cli.documents import Json, look_list, name_of, title
from federation.cli.options import (
    Target,
    TargetType,
    names_of_target,
    output_option,
    watch_option,
)
from federation.cli.output import Format, Table, coloured, put, put_value
from federation.cli.session import Session, command, pass_session
from federation.cli.sync import SYNC, show_sync
from federation.cli.watch import Change, Printer, watch_kind
from federation.contract.errors import Invalid
from federation.contract.resources import Kind
from federation.runtime.clock import SystemClock


class _AnyTarget(TargetType):
    """KIND or KIND/NAME, or `sync`."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Target:
        """Return the Target that a word means."""
        word, _, name = str(value).partition("/")
        if word.lower() in (SYNC.plural, *SYNC.short):
            return Target(SYNC, name)
        return super().convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the plural names."""
        offered = super().shell_complete(ctx, param, incomplete)
        if SYNC.plural.startswith(incomplete.lower()):
            offered.append(CompletionItem(SYNC.plural))
        return offered


@command("get")
@click.argument("target", metavar="KIND", type=_AnyTarget())
@click.argument("name", required=False, shell_complete=names_of_target)
@output_option()
@watch_option
@pass_session
def get(session: Session, target: Target, name: str | None, output: Format, watch: bool) -> None:
    """List objects of a kind, or show one.

    KIND is regions, clusters, models, deployments, rollouts, prefetches, routers, tenants, keys or
    events; singular and short forms (reg, cl, mo, dep, ro, pf, rt, tn, ev) work as well. `fed get
    sync [MODEL]` shows how far the bytes of models are at each cluster.

    \b
    Example:
      fed get clusters
      fed get cluster eu-west -o yaml
      fed get deployments --watch
      fed get sync --watch
    """
    if target.kind is SYNC:
        show_sync(session, target.named(name), output, watch=watch)
        return
    show(session, target.kind, target.named(name), output, watch=watch)


def show(session: Session, kind: Kind, name: str, output: Format, *, watch: bool) -> None:
    """Print the objects of a kind, or the one called `name`; with `watch`, go on until Ctrl-C."""
    if watch and output is Format.YAML:
        raise Invalid("--watch cannot print YAML.", hint="Use -o json: one object a line.")
    with session.client() as client:
        if name:
            answer = client.get("api", "v1", kind.plural, name)
            items = [answer]
        else:
            answer = client.get("api", "v1", kind.plural)
            items = look_list(answer, "items")
        printer = make_printer(kind, output, items)
        if not watch:
            print_all(kind, items, answer, output, printer)
            return
        for item in items:
            printer(Change("ADDED", item))
        for change in watch_kind(client, kind, answer, items):
            if not name or name_of(change.document) == name:
                printer(change)


def print_all(
    kind: Kind, items: list[Json], answer: Json, output: Format, printer: Printer
) -> None:
    """Print a whole answer once."""
    if output in (Format.JSON, Format.YAML):
        put_value(answer, output)
        return
    if not items and output is not Format.NAME:
        click.echo(f"There are no {kind.plural} yet.", err=True)
        return
    for item in items:
        printer(Change("ADDED", item))


def make_printer(kind: Kind, output: Format, items: list[Json]) -> Printer:
    """Return what prints one change in the chosen format; `items` set the widths of a table."""
    if output is Format.JSON:
        return _print_json
    if output is Format.NAME:
        return lambda change: put(title(kind, name_of(change.document)))
    columns = columns_of(kind.name, wide=output is Format.WIDE)
    clock = SystemClock()
    rows = [row(columns, item, clock.utc()) for item in items]
    table = Table([column.title for column in columns], rows)
    colour = coloured()
    printed = [False]

    def print_row(change: Change) -> None:
        if not printed[0]:
            put(table.lines(colour=colour)[0])
            printed[0] = True
        if change.type == "DELETED":
            click.echo(f"{title(kind, name_of(change.document))} was deleted", err=True)
            return
        put(table.line(row(columns, change.document, clock.utc()), colour=colour))

    return print_row


def _print_json(change: Change) -> None:
    from federation.cli.output import put_json

    put_json({"type": change.type, "object": change.document}, one_line=True)
