"""`fed key`: keys for people and programs, and for tenants.

Input: names, roles, tenants. Output: calls of the operator API; the text of a new key, once, on
stdout or in a new file (mode 0600).
"""

from datetime import timedelta

import click

from federation.cli.delete import YES, remove
from federation.cli.documents import Json, look, title
from federation.cli.get import show
from federation.cli.join import JoinFile
from federation.cli.lazy import LazyGroup
from federation.cli.options import DurationType, names_of, output_option
from federation.cli.output import Format, note, put, put_value
from federation.cli.session import Session, command, pass_session
from federation.contract.access import Role
from federation.contract.names import check_name
from federation.contract.resources import KINDS
from federation.runtime.clock import SystemClock

_KIND = next(kind for kind in KINDS if kind.plural == "keys")
_NAME = click.argument("name", shell_complete=names_of("keys"))
_EXPIRES = click.option(
    "--expires", type=DurationType(), metavar="TIME", help="How long it lasts, like 90d."
)
_FILE = click.option(
    "--token-file",
    "--key-file",
    "file",
    metavar="FILE",
    help="Write the key to this new file (mode 0600) instead of printing it.",
)
_OUTPUT = output_option(formats=(Format.TABLE, Format.JSON, Format.YAML))

key = LazyGroup(
    "key",
    {
        "create": (f"{__name__}:create", "Make a key and show it once."),
        "list": (f"{__name__}:list_keys", "List the keys."),
        "rotate": (f"{__name__}:rotate", "Give a key a new text."),
        "revoke": (f"{__name__}:revoke", "End a key at once."),
    },
    help="Make, rotate and revoke keys.",
    epilog="\b\nExample:\n  fed key create alice --role operator --region eu-west --expires 90d\n"
    "  fed key create acme-prod --tenant acme --key-file acme.key",
)


@command("create")
@click.argument("name")
@click.option(
    "--tenant", shell_complete=names_of("tenants"), help="For inference by this tenant, at routers."
)
@click.option(
    "--role",
    "roles",
    type=click.Choice([role.value for role in Role]),
    multiple=True,
    help="For the operator API; may be repeated.",
)
@click.option(
    "--model", "models", multiple=True, metavar="PATTERN", help="Limits a model-owner; repeatable."
)
@click.option(
    "--region",
    "regions",
    multiple=True,
    shell_complete=names_of("regions"),
    help="Limits an operator; repeatable.",
)
@_EXPIRES
@_FILE
@_OUTPUT
@pass_session
def create(
    session: Session,
    name: str,
    tenant: str | None,
    roles: tuple[str, ...],
    models: tuple[str, ...],
    regions: tuple[str, ...],
    expires: float | None,
    file: str | None,
    output: Format,
) -> None:
    """Make a key for a tenant, or for a person or program with a role. It is shown once.

    \b
    Example:
      fed key create acme-prod --tenant acme
      fed key create alice --role operator --region eu-west --expires 90d
      fed key create ml --role model-owner --model 'llama-*' --token-file ml.token
    """
    check_name("key", name)
    if bool(tenant) == bool(roles):
        raise click.UsageError("a key is either for a --tenant or has a --role.")
    content: Json = {**_until(expires)}
    if tenant:
        if models or regions:
            raise click.UsageError("the limits of a tenant's keys are the tenant's.")
        content["tenant"] = tenant
    else:
        content["grants"] = _grants(roles, models, regions)
    with JoinFile(file) as new, session.client() as client:
        answer = client.send("POST", "api", "v1", "keys", name, content=content)
        _hand_over(new, name, answer, output)


def _grants(
    roles: tuple[str, ...], models: tuple[str, ...], regions: tuple[str, ...]
) -> list[Json]:
    """Return the grants: each limit goes to the role that knows it."""
    if models and Role.MODEL_OWNER not in roles:
        raise click.UsageError("--model limits the role model-owner, which it does not have.")
    if regions and Role.OPERATOR not in roles:
        raise click.UsageError("--region limits the role operator, which it does not have.")
    return [
        {
            "role": role,
            "models": list(models) if role == Role.MODEL_OWNER else [],
            "regions": list(regions) if role == Role.OPERATOR else [],
        }
        for role in dict.fromkeys(roles)
    ]


def _until(expires: float | None) -> Json:
    if expires is None:
        return {}
    moment = SystemClock().utc() + timedelta(seconds=expires)
    return {"expiresAt": moment.isoformat(timespec="seconds")}


def _hand_over(file: JoinFile, name: str, answer: Json, output: Format) -> None:
    """Give the text to whoever asked for it: in the file, or on stdout."""
    text = str(answer.get("text") or "")
    file.write(text)
    if file.path:
        answer.pop("text", None)
    if output is not Format.TABLE:
        put_value(answer, output)
        return
    until = look(answer, "key", "status", "expires_at")
    note(f"{title(_KIND, name)} is valid {f'until {until}' if until else 'until it is revoked'}.")
    if file.path:
        note(f"It is in {file.path}.")
    else:
        note("This is the only time that it is shown:")
        put(text)


@command("list")
@output_option()
@pass_session
def list_keys(session: Session, output: Format) -> None:
    """List the keys: whose they are and what they open, never their text.

    \b
    Example:
      fed key list
    """
    show(session, _KIND, "", output, watch=False)


@command("rotate")
@_NAME
@_EXPIRES
@_FILE
@_OUTPUT
@pass_session
def rotate(
    session: Session, name: str, expires: float | None, file: str | None, output: Format
) -> None:
    """Give a key a new text, shown once. The old text is void at once.

    \b
    Example:
      fed key rotate acme-prod --token-file acme-new.key
    """
    with JoinFile(file) as new, session.client() as client:
        answer = client.send("POST", "api", "v1", "keys", name, "rotate", content=_until(expires))
        _hand_over(new, name, answer, output)


@command("revoke")
@_NAME
@YES
@pass_session
def revoke(session: Session, name: str, yes: bool) -> None:
    """End a key at once. On a terminal you are asked to type its name.

    \b
    Example:
      fed key revoke acme-prod --yes
    """
    remove(session, _KIND, name, yes=yes, done="revoked")
