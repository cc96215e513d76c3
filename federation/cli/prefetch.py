"""`fed prefetch`: have a model version lie ready at clusters before anybody deploys it there.

Input: MODEL@VERSION|ALIAS and flags. Output: a PUT, or a DELETE, of one prefetch. With --wait,
success means that every selected cluster has all bytes, verified.
"""

from dataclasses import replace

import click

from federation.cli.apply import apply_one, find
from federation.cli.client import ApiClient
from federation.cli.columns import prefetch_reason
from federation.cli.delete import YES, remove
from federation.cli.deploy import default_name
from federation.cli.documents import Json, Wanted, live_spec, look, look_list, look_map
from federation.cli.options import (
    LabelType,
    ListType,
    dry_run_option,
    names_of,
    output_option,
    wait_options,
)
from federation.cli.output import Format, note, put, put_value
from federation.cli.session import Session, command, pass_session
from federation.cli.wait import wait_for
from federation.contract.errors import NotFound
from federation.contract.names import check_model_name, check_name, did_you_mean, split_reference
from federation.contract.resources import KINDS, PrefetchSpec

_KIND = next(kind for kind in KINDS if kind.plural == "prefetches")


@command("prefetch")
@click.argument("reference", metavar="MODEL@VERSION|ALIAS", shell_complete=names_of("models"))
@click.option("--regions", type=ListType(), help="Regions to have it in.  [default: all]")
@click.option("--label", "labels", type=LabelType(), multiple=True, help="Only clusters with it.")
@click.option("--name", help="Name of the prefetch.  [default: model and version]")
@click.option("--remove", "removes", is_flag=True, help="No longer keep it ready (in --regions).")
@YES
@dry_run_option
@wait_options
@output_option()
@pass_session
def prefetch(
    session: Session,
    reference: str,
    regions: tuple[str, ...] | None,
    labels: tuple[tuple[str, str], ...],
    name: str | None,
    removes: bool,
    yes: bool,
    dry_run: bool,
    wait: bool,
    timeout: float,
    output: Format,
) -> None:
    """Bring a model version to clusters without loading it.

    Its bytes arrive behind those of what is deployed, lie there verified, and a later `fed deploy`
    or rollback needs no transfer. An alias is looked up once, now.

    \b
    Example:
      fed prefetch filetype@3 --regions eu-west,us-east --wait
      fed prefetch filetype@3 --regions us-east --remove
      fed prefetch filetype@3 --remove
    """
    with session.client() as client:
        model, version = _resolved(client, reference)
        wanted = Wanted(
            kind=_KIND,
            name=check_name("prefetch", name or f"{default_name(model)}-{version}"),
            spec=PrefetchSpec(
                model=model, version=version, regions=regions or (), cluster_labels=dict(labels)
            ),
            resource_version=None,
            source="the command line",
        )
        if removes:
            rest = _without(client, wanted, regions)
            if rest is None:
                remove(session, _KIND, wanted.name, yes=yes, dry_run=dry_run)
                return
            wanted = rest
        outcome, document = apply_one(client, wanted, dry_run=dry_run)
        _report(wanted, f"{outcome}{' (server dry run)' if dry_run else ''}", document, output)
        if wait and not dry_run:
            ready = wait_for(client, _KIND, wanted.name, not_ready, timeout_s=timeout)
            at = look(ready, "status", "ready_at")
            note(f"{wanted.title} is ready: {model} version {version} lies at {at} clusters")


def not_ready(document: Json) -> str:
    """Return in words what a prefetch lacks until it is ready, or ""."""
    if look(document, "status", "ready"):
        return ""
    return prefetch_reason(document) or "no cluster has it yet"


def _resolved(client: ApiClient, reference: str) -> tuple[str, int]:
    """Return the model and the number of the version that a reference means now."""
    model, version = split_reference(reference)
    check_model_name(model)
    if not version:
        raise click.UsageError("which version? Write MODEL@VERSION or MODEL@ALIAS.")
    if version.isdecimal():
        return model, int(version)
    aliases = look_map(client.get("api", "v1", "models", model), "spec", "aliases")
    if isinstance(number := aliases.get(version), int):
        return model, number
    raise NotFound(
        f"model {model!r} has no alias {version!r}.", hint=did_you_mean(version, aliases)
    )


def _without(client: ApiClient, wanted: Wanted, regions: tuple[str, ...] | None) -> Wanted | None:
    """Return the prefetch without these regions; None if nothing is left of it."""
    if not regions:
        return None
    live = find(client, wanted)
    if live is None:
        return None  # the deletion tells that it does not exist
    held = live_spec(_KIND, live)
    if not isinstance(held, PrefetchSpec):
        raise TypeError(held)
    if not held.regions:
        raise click.UsageError(
            f"{wanted.title} is about all regions: write those that stay with --regions, without "
            "--remove."
        )
    if not (rest := tuple(r for r in held.regions if r not in regions)):
        return None
    read = look(live, "metadata", "resourceVersion")
    return replace(wanted, spec=replace(held, regions=rest), resource_version=read)


def _report(wanted: Wanted, outcome: str, document: Json, output: Format) -> None:
    if output in (Format.JSON, Format.YAML):
        put_value(document, output)
    elif output is Format.NAME:
        put(wanted.title)
    else:
        put(f"{wanted.title} {outcome}")
        for refusal in look_list(document, "status", "cannot"):
            note(f"not at {look(refusal, 'cluster')}: {look(refusal, 'reason')}")
