"""`fed model verify` and `fed model gc`: care for the artifact store.

Input: a version; how long garbage is kept. Output: what is damaged; what was removed, or would be.
"""

import click

from federation.cli.cells import size
from federation.cli.exits import ExitCode
from federation.cli.model_pull import split_version
from federation.cli.options import DurationType, output_option
from federation.cli.output import Format, note, put, put_table, put_value
from federation.cli.session import Session, command, pass_session

_LONG_S = 6 * 3600.0  # all bytes are read: at 1 GB/s, a hundred seconds for 100 GB
_DAY_S = 86_400.0


@command("verify")
@click.argument("version", metavar="MODEL[@VERSION]")
@output_option(formats=(Format.TABLE, Format.JSON, Format.YAML))
@pass_session
@click.pass_context
def verify(ctx: click.Context, session: Session, version: str, output: Format) -> None:
    """Check every byte of a version in the store; ends with 1 if something is damaged.

    VERSION is a number or an alias, by default the newest. Pushing the same content again repairs
    what is damaged.

    \b
    Example:
      fed model verify filetype@champion
    """
    model, wanted = split_version(version)
    with session.client(timeout_s=_LONG_S) as client:
        answer = client.send("POST", "api", "v1", "models", model, "versions", wanted, "verify")
    damage = list(answer.get("damage", ()))
    if output is not Format.TABLE:
        put_value(answer, output)
    elif damage:
        put_table(("OBJECT", "PROBLEM"), [(str(d["key"]), str(d["problem"])) for d in damage])
    else:
        told = f"model/{model} version {answer['version']} (digest {str(answer['digest'])[:12]})"
        put(f"{told} is whole: {size(int(answer['size']))} were checked")
    if damage:
        note(f"{len(damage)} things are damaged. Push the same content again to repair them.")
        ctx.exit(ExitCode.FAILED)


@command("gc")
@click.option("--dry-run", is_flag=True, help="Tell what would be removed, and remove nothing.")
@click.option(
    "--grace",
    type=DurationType(),
    default="24h",
    show_default=True,
    help="Keep what was used within this time; longer than any push takes.",
)
@output_option(formats=(Format.TABLE, Format.JSON, Format.YAML))
@pass_session
def gc(session: Session, dry_run: bool, grace: float, output: Format) -> None:
    """Remove from the store what no version needs: the chunks of deleted models and of pushes that
    nobody finished. The control plane does it by itself once a day, unless it is most of the store.

    \b
    Example:
      fed model gc --dry-run
      fed model gc
    """
    query = {"dryRun": "true"} if dry_run else {}
    with session.client(timeout_s=_LONG_S) as client:
        content = {"graceSeconds": int(grace)}
        answer = client.send("POST", "api", "v1", "gc", content=content, **query)
    if output is not Format.TABLE:
        put_value(answer, output)
        return
    would = "would be" if dry_run else "were"
    put(
        f"{size(int(answer['bytes_freed']))} of {size(int(answer['bytes_before']))} {would} freed: "
        f"{answer['packs_removed']} of {answer['packs']} packs removed, "
        f"{answer['packs_rewritten']} rewritten, {answer['documents_removed']} documents removed"
        + (" (dry run)" if dry_run else "")
    )
