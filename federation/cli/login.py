"""`fed login`, `fed logout`, `fed whoami`: who you are, at which control plane.

Input: a URL, how its roots are known (a file, a pin, or its state directory on this machine), and a
token. Output: a context, written only after the control plane proved itself and accepted the token;
files beside the file of contexts (mode 0600) for roots and tokens that were handed over.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click

from federation.cli.client import ApiClient
from federation.cli.documents import Json, look, look_list
from federation.cli.options import output_option
from federation.cli.output import Format, clean, note, put, put_table, put_value
from federation.cli.session import Session, command, pass_session
from federation.cli.settings import (
    DEFAULT_ENDPOINT,
    Context,
    check_endpoint,
    check_token,
    load_config,
    read_token,
    save_config,
    with_context,
    without_context,
)
from federation.cli.tls import Roots, is_loopback, pinned, read_roots
from federation.contract.errors import Invalid, NotFound
from federation.contract.names import check_name
from federation.runtime.files import write_atomic
from federation.trust.pins import check_pin

ADMIN_TOKEN, ROOTS = "admin.token", "ca.pem"  # in a control plane's state directory


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A text, and the file that it came from ("" = it was handed over and is yet to be kept)."""

    text: str
    file: str = ""


@command("login")
@click.argument("url", required=False)
@click.option("--ca-pin", metavar="PIN", help="What `fed ca pin` prints at the control plane.")
@click.option(
    "--state-dir",
    metavar="DIR",
    help="State directory of a control plane on this machine: its roots and its admin token.",
)
@pass_session
def login(session: Session, url: str | None, ca_pin: str | None, state_dir: str | None) -> None:
    """Check a control plane and your token, and make them the current context.

    The control plane is known by --ca-file, by --ca-pin, by --state-dir, or, with none of them, by
    the machine's own authorities. The token is read from --token-file ('-' for stdin), or
    asked for. The context is called as --context says, else after the host.

    \b
    Example:
      fed login https://fed.example.com:7480 --ca-pin sha256:4f... --token-file alice.token
      fed login --state-dir ~/.local/state/inference-federation/control-plane
    """
    ca_file = session.flags.get("ca_file", "")
    if sum(map(bool, (ca_file, ca_pin, state_dir))) > 1:
        raise click.UsageError("--ca-file, --ca-pin and --state-dir exclude each other.")
    if not url and not state_dir:
        raise click.UsageError("where is the control plane? Name its URL.")
    endpoint = check_endpoint(url or DEFAULT_ENDPOINT)
    name = check_name("context", session.flags.get("context") or _name_for(endpoint))
    roots = _roots(endpoint, ca_file, ca_pin, state_dir)
    token = _token(session.flags.get("token_file", ""), state_dir)
    known = Roots(roots.text) if roots else None
    with ApiClient(endpoint, token=token.text, roots=known) as client:
        who = client.get("api", "v1", "whoami")
        if roots and not roots.file:  # the pin proved one of them; that one proves all
            roots = _Found(text=_bundle(client))
    path = session.config_path()
    context = Context(
        endpoint=endpoint,
        token_file=_kept(token, path, f"{name}.token"),
        ca_file=_kept(roots, path, f"{name}.ca.pem") if roots else "",
    )
    save_config(path, with_context(load_config(path), name, context, use=True))
    put(f"logged in to {endpoint} as {_told(who)}; context {name} is the current one")


def _name_for(endpoint: str) -> str:
    host = urlsplit(endpoint).hostname or ""
    if is_loopback(host):
        return "local"
    return host.replace(".", "-").replace(":", "-").strip("-")


def _roots(endpoint: str, ca_file: str, ca_pin: str | None, state_dir: str | None) -> _Found | None:
    if state_dir:
        ca_file = str(Path(state_dir, ROOTS))
    if ca_file:
        file = str(Path(ca_file).expanduser().absolute())
        roots = read_roots(file)
        return _Found(text=roots.pem, file=file) if roots else None
    if not ca_pin:
        return None
    check_pin(ca_pin)
    if not endpoint.startswith("https:"):
        raise Invalid("--ca-pin needs an endpoint that starts with https://.")
    with ApiClient(endpoint, unverified=True) as client:
        return _Found(text=pinned([_bundle(client)], ca_pin).pem)


def _bundle(client: ApiClient) -> str:
    """Return the roots that a control plane tells of."""
    told = look_list(client.get("api", "v1", "trust"), "roots")
    return "".join(f"{pem.rstrip()}\n" for pem in map(str, told))


def _token(given: str, state_dir: str | None) -> _Found:
    if state_dir and not given:
        given = str(Path(state_dir, ADMIN_TOKEN))
    if given not in ("", "-"):
        file = str(Path(given).expanduser().absolute())
        return _Found(text=read_token(file), file=file)
    if given or not sys.stdin.isatty():
        return _Found(text=read_token("-"))
    asked: str = click.prompt("Token", hide_input=True, err=True)
    return _Found(text=check_token(asked, "that"))


def _kept(found: _Found, config: Path, name: str) -> str:
    """Return the file of what was found; what was handed over is written beside the contexts."""
    if found.file:
        return found.file
    path = config.with_name(name)
    try:
        write_atomic(path, f"{found.text.rstrip()}\n".encode(), mode=0o600)
    except OSError as error:
        raise Invalid(f"cannot write {path}: {error.strerror}.", hint="Set FED_CONFIG.") from None
    return str(path.absolute())


@command("logout")
@pass_session
def logout(session: Session) -> None:
    """Forget the current context (or that of --context), and the files that login wrote for it.

    The token itself stays valid: `fed key revoke` ends it.

    \b
    Example:
      fed logout
    """
    path = session.config_path()
    held = load_config(path)
    name = session.flags.get("context") or held.current_context
    if not name:
        raise NotFound("there is no current context.", hint="See: fed config get-contexts")
    context = held.context(name)
    save_config(path, without_context(held, name))
    for file, written in (
        (context.token_file, f"{name}.token"),
        (context.ca_file, f"{name}.ca.pem"),
    ):
        if file and Path(file) == path.with_name(written).absolute():
            Path(file).unlink(missing_ok=True)
    put(f"context {name} is forgotten")
    if not held.contexts.keys() - {name}:
        note("There is no context any more.")


@command("whoami")
@output_option(formats=(Format.TABLE, Format.JSON, Format.YAML))
@pass_session
def whoami(session: Session, output: Format) -> None:
    """Show who the control plane takes you for, and what you may do.

    \b
    Example:
      fed whoami
    """
    with session.client() as client:
        who = client.get("api", "v1", "whoami")
    if output is not Format.TABLE:
        put_value(who, output)
        return
    put(clean(str(look(who, "name") or "")))
    rows = [[str(look(grant, "role") or ""), _scope(grant)] for grant in look_list(who, "grants")]
    put_table(["ROLE", "LIMITED TO"], rows or [["none", ""]])


def _scope(grant: Json) -> str:
    return ", ".join(map(str, [*look_list(grant, "regions"), *look_list(grant, "models")]))


def _told(who: Json) -> str:
    roles = []
    for grant in look_list(who, "grants"):
        scope = _scope(grant)
        roles.append(f"{look(grant, 'role')} of {scope}" if scope else str(look(grant, "role")))
    return clean(f"{look(who, 'name')} ({' and '.join(roles) or 'no role'})")
