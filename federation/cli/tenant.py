"""`fed tenant`: who may use which models, where, and how much.

Input: a name and flags. Output: a PUT of the tenant; what no flag of `change` names stays as it is.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import click

from federation.cli.apply import apply_one, find
from federation.cli.documents import Wanted, live_spec
from federation.cli.get import show
from federation.cli.lazy import LazyGroup
from federation.cli.options import (
    ListType,
    dry_run_option,
    names_of,
    output_option,
    watch_option,
)
from federation.cli.output import Format, note, put
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import AlreadyExists, NotFound
from federation.contract.names import check_name
from federation.contract.resources import KINDS, TenantSpec

F = TypeVar("F", bound=Callable[..., Any])
_KIND = next(kind for kind in KINDS if kind.plural == "tenants")

tenant = LazyGroup(
    "tenant",
    {
        "create": (f"{__name__}:create", "Create a tenant."),
        "change": (f"{__name__}:change", "Change what a tenant may do."),
        "list": (f"{__name__}:list_tenants", "List the tenants."),
    },
    help="Create tenants, which hold the API keys of the inference endpoint, and set their limits.",
    epilog="\b\nExample:\n"
    "  fed tenant create acme --models 'llama-*' --requests-per-minute 600\n"
    "  fed key create acme-prod --tenant acme",
)


def _limits(function: F) -> F:
    """Declare the flags that say what a tenant may do, passed on by the names of the spec."""
    amount = click.IntRange(min=0)
    options = (
        click.option("--models", type=ListType(), help="Allowed models: 'ocr,llama-*'."),
        click.option(
            "--residency", type=ListType(), help="Guarantee: served in these regions only."
        ),
        click.option("--requests-per-minute", type=amount, help="Limit per router; 0 = none."),
        click.option("--tokens-per-minute", type=amount, help="Limit per router; 0 = none."),
        click.option("--max-concurrent", type=amount, help="Requests at once per router."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command("create")
@click.argument("name")
@_limits
@dry_run_option
@pass_session
def create(session: Session, /, name: str, dry_run: bool, **said: Any) -> None:
    """Create a tenant. Without flags it may use all models, everywhere, without limits.

    \b
    Example:
      fed tenant create acme --models 'llama-*' --residency eu-west \\
        --requests-per-minute 600 --tokens-per-minute 100000 --max-concurrent 50
    """
    wanted = _wanted(check_name("tenant", name), _changed(TenantSpec(), said))
    with session.client() as client:
        live = find(client, wanted)
        if live is not None and live_spec(_KIND, live) != wanted.spec:
            raise AlreadyExists(
                f"tenant {name!r} exists already, with other limits.",
                hint=f"Change them with: fed tenant change {name} ...",
            )
        outcome, _ = apply_one(client, wanted, dry_run=dry_run)
    put(f"{wanted.title} {outcome}{' (server dry run)' if dry_run else ''}")
    if outcome == "created" and not dry_run:
        note(f"Make its first key with: fed key create {name}-1 --tenant {name}")


@command("change")
@click.argument("name", shell_complete=names_of("tenants"))
@_limits
@dry_run_option
@pass_session
def change(session: Session, /, name: str, dry_run: bool, **said: Any) -> None:
    """Change what a tenant may do. What no flag names stays as it is; '' and 0 lift a limit.

    \b
    Example:
      fed tenant change acme --requests-per-minute 1200
      fed tenant change acme --residency ''
    """
    with session.client() as client:
        live = find(client, _wanted(name, TenantSpec()))
        if live is None:
            raise NotFound(
                f"tenant {name!r} is unknown.", hint=f"Create it with: fed tenant create {name}"
            )
        spec = cast(TenantSpec, live_spec(_KIND, live))
        wanted = _wanted(name, _changed(spec, said), live["metadata"]["resourceVersion"])
        outcome, _ = apply_one(client, wanted, dry_run=dry_run)
    put(f"{wanted.title} {outcome}{' (server dry run)' if dry_run else ''}")


@command("list")
@output_option()
@watch_option
@pass_session
def list_tenants(session: Session, output: Format, watch: bool) -> None:
    """List the tenants.

    \b
    Example:
      fed tenant list -o wide
    """
    show(session, _KIND, "", output, watch=watch)


def _changed(spec: TenantSpec, said: dict[str, Any]) -> TenantSpec:
    return replace(spec, **{flag: value for flag, value in said.items() if value is not None})


def _wanted(name: str, spec: TenantSpec, resource_version: int | None = None) -> Wanted:
    return Wanted(
        kind=_KIND,
        name=name,
        spec=spec,
        resource_version=resource_version,
        source="the command line",
    )
