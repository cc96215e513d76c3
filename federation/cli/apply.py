"""`fed apply` and `fed diff`: objects as files want them.

Input: YAML files with one or more documents, read strictly, and the live objects. Output: PUTs of
what differs, one line per object; or a unified diff and exit code 8.
"""

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import yaml

from federation.cli.client import ApiClient
from federation.cli.documents import Json, Wanted, body, in_order, live_spec, parse_wanted, plain
from federation.cli.exits import ExitCode
from federation.cli.options import dry_run_option, output_option
from federation.cli.output import Format, coloured, put, put_value
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import Invalid, NotFound

_FILES = click.option(
    "-f",
    "--filename",
    "files",
    metavar="FILE",
    required=True,
    multiple=True,
    help="YAML file, '-' for stdin; may be repeated.",
)


@command("apply")
@_FILES
@dry_run_option
@output_option()
@pass_session
def apply(session: Session, files: tuple[str, ...], dry_run: bool, output: Format) -> None:
    """Create or change objects so that they are as the files say. Doing it again changes nothing.

    Nothing is sent unless all files are free of mistakes. What others refer to goes first: regions,
    clusters, models, deployments.

    \b
    Example:
      fed apply -f fleet.yaml
      fed get deployment filetype -o yaml | fed apply -f -
      fed apply -f fleet.yaml --dry-run=server
    """
    wanted = read_files(files)
    with session.client() as client:
        for one in wanted:
            outcome, document = apply_one(client, one, dry_run=dry_run)
            if output in (Format.JSON, Format.YAML):
                if output is Format.YAML and len(wanted) > 1:
                    put("---")
                put_value(document, output)
            elif output is Format.NAME:
                put(one.title)
            else:
                put(f"{one.title} {outcome}{' (server dry run)' if dry_run else ''}")


@command("diff")
@_FILES
@click.pass_context
@pass_session
def diff(session: Session, ctx: click.Context, files: tuple[str, ...]) -> None:
    """Show what `apply` would change. The exit code is 8 when something differs, else 0.

    \b
    Example:
      fed diff -f fleet.yaml
    """
    differs = False
    with session.client() as client:
        for one in read_files(files):
            lines = difference(one, find(client, one))
            differs = differs or bool(lines)
            for line in lines:
                put(_painted(line))
    ctx.exit(ExitCode.DIFFERS if differs else ExitCode.OK)


def read_files(files: Sequence[str]) -> list[Wanted]:
    """Read all documents of all files, in the order to apply them; raises Invalid."""
    return in_order(one for file in files for one in parse_wanted(_read(file), source=_named(file)))


def _named(file: str) -> str:
    return "stdin" if file == "-" else file


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise Invalid(f"cannot read {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise Invalid(f"{_named(file)} is not UTF-8 text.") from None


def find(client: ApiClient, one: Wanted) -> Json | None:
    """Return the live document of a wanted object, or None."""
    try:
        return client.get("api", "v1", one.kind.plural, one.name)
    except NotFound:
        return None


def apply_one(client: ApiClient, one: Wanted, *, dry_run: bool) -> tuple[str, Json]:
    """Make one object as wanted; returns created, configured or unchanged, and the document."""
    live = find(client, one)
    if live is not None and live_spec(one.kind, live) == one.spec and not dry_run:
        return "unchanged", live
    document = client.send(
        "PUT",
        "api",
        "v1",
        one.kind.plural,
        one.name,
        content=body(one.kind, one.name, one.spec, one.resource_version),
        **({"dryRun": "true"} if dry_run else {}),
    )
    if live is None:
        return "created", document
    return "unchanged" if live_spec(one.kind, live) == one.spec else "configured", document


def difference(one: Wanted, live: Json | None) -> list[str]:
    """Return the unified diff from the live spec to the wanted one; empty when they are equal."""
    before = "" if live is None else _yaml(live_spec(one.kind, live))
    return list(
        difflib.unified_diff(
            before.splitlines(),
            _yaml(one.spec).splitlines(),
            fromfile=f"live/{one.title}",
            tofile=f"{one.source}/{one.title}",
            lineterm="",
        )
    )


def _yaml(spec: object) -> str:
    return yaml.safe_dump({"spec": plain(spec)}, sort_keys=False, allow_unicode=True)


def _painted(line: str) -> str:
    shade = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=shade) if shade and coloured() else line
