"""`fed cluster`: which clusters are in the federation.

Input: names, regions, labels. Output: calls of the operator API; for a registration, the one
command that starts the agent at the edge. Accepting and revoking are in `members`.
"""

from collections.abc import Callable

import click

from federation.cli.client import ApiClient
from federation.cli.delete import YES, remove
from federation.cli.documents import Json, live_spec, look, look_list, plain, title
from federation.cli.inviting import TicketOptions, invite, ticket_options
from federation.cli.join import agent_command
from federation.cli.lazy import LazyGroup
from federation.cli.options import LabelType, names_of, wait_options
from federation.cli.output import Format, note, put
from federation.cli.session import Session, command, pass_session
from federation.cli.wait import wait_for
from federation.contract.errors import NotFound
from federation.contract.names import check_name
from federation.contract.resources import KINDS, ClusterSpec
from federation.contract.sync import SyncSpec
from federation.contract.types import Connectivity, EngineKind
from federation.runtime.clock import Clock, SystemClock

_KIND = next(kind for kind in KINDS if kind.plural == "clusters")
_NAME = click.argument("name", shell_complete=names_of("clusters"))
_SETTLE_S = 1.0
_ENGINES = [kind.value for kind in EngineKind if kind is not EngineKind.UNKNOWN]

cluster = LazyGroup(
    "cluster",
    {
        "register": (f"{__name__}:register", "Register a cluster and print how to join it."),
        "accept": ("federation.cli.members:accept_cluster", "Let a cluster in that waits for it."),
        "revoke": ("federation.cli.members:revoke_cluster", "Refuse a cluster from now on."),
        "cordon": (f"{__name__}:cordon", "Give a cluster no new models."),
        "uncordon": (f"{__name__}:uncordon", "Give a cluster traffic and models again."),
        "drain": (f"{__name__}:drain", "Take a cluster out of traffic."),
        "sync": ("federation.cli.cluster_sync:sync", "Set how a cluster fetches models, and when."),
        "remove": (f"{__name__}:remove_cluster", "Remove a cluster from the federation."),
    },
    help="Register, accept, revoke, cordon, drain, tune or remove clusters.",
    epilog="\b\nExample:\n  fed cluster register eu-west --region eu-west\n"
    "  fed cluster drain eu-west",
)


@command("register")
@click.argument("name")
@click.option(
    "--region",
    shell_complete=names_of("regions"),
    help="The region it is in; may be left out with --rejoin.",
)
@click.option("--label", "labels", type=LabelType(), multiple=True, help="Label; may be repeated.")
@click.option(
    "--allow-code/--no-allow-code",
    default=None,
    help="Let packages that carry Python code load there.",
)
@click.option(
    "--connectivity",
    type=click.Choice([Connectivity.DIAL.value, Connectivity.REVERSE.value]),
    help="dial: routers dial it; reverse: it dials them (behind NAT).  [default: dial]",
)
@click.option("--engine", type=click.Choice(_ENGINES), help="The serving engine, for the command.")
@click.option(
    "--engine-url",
    "--url",
    "engine_url",
    metavar="URL",
    help="Where the engine serves, for the command.",
)
@ticket_options("cluster")
@pass_session
def register(
    session: Session,
    name: str,
    region: str | None,
    labels: tuple[tuple[str, str], ...],
    allow_code: bool | None,
    connectivity: str | None,
    engine: str | None,
    engine_url: str | None,
    ticket: TicketOptions,
) -> None:
    """Register a cluster and print the one command that starts its agent there.

    The join token is shown once: it can be used once, and for a limited time.

    \b
    Example:
      fed cluster register eu-west --region eu-west --engine triton
      fed cluster register lab --region eu-west --engine static --engine-url http://10.0.0.5:8000
      fed cluster register edge-7 --region eu-west --connectivity reverse --require-accept
      fed cluster register eu-west --rejoin --token-file eu-west.token
    """
    check_name("cluster", name)
    if engine == EngineKind.STATIC and not engine_url:
        raise click.UsageError("--engine static needs --engine-url: where the engine serves.")
    with session.client() as client:
        held = _held_spec(client, name) if ticket.rejoin else None
        spec = _spec(held, region, labels, allow_code, connectivity)
        extra = _connectivity_flags(spec) + _engine_flags(engine, engine_url)
        invite(
            client,
            (_KIND, name),
            plain(spec),
            ticket,
            lambda it: agent_command(name, it, extra=extra),
        )
    if ticket.output is Format.TABLE and (hint := _hint(engine, engine_url)):
        note(hint)


def _held_spec(client: ApiClient, name: str) -> ClusterSpec | None:
    try:
        spec = live_spec(_KIND, client.get("api", "v1", "clusters", name))
    except NotFound:
        return None
    return spec if isinstance(spec, ClusterSpec) else None


def _spec(
    held: ClusterSpec | None,
    region: str | None,
    labels: tuple[tuple[str, str], ...],
    allow_code: bool | None,
    connectivity: str | None,
) -> ClusterSpec:
    """Return the wanted spec: what is not said stays as it is."""
    wanted_region = region or (held.region if held else "")
    if not wanted_region:
        raise click.UsageError("which region is it in? Name it with --region.")
    kept = held.connectivity if held else Connectivity.DIAL
    return ClusterSpec(
        region=wanted_region,
        labels=dict(labels) or (held.labels if held else {}),
        allow_code=allow_code if allow_code is not None else bool(held and held.allow_code),
        connectivity=Connectivity(connectivity) if connectivity else kept,
        sync=held.sync if held else SyncSpec(),
    )


def _connectivity_flags(spec: ClusterSpec) -> list[str]:
    reverse = spec.connectivity is Connectivity.REVERSE
    return ["--connectivity", spec.connectivity.value] if reverse else []


def _hint(engine: str | None, url: str | None) -> str:
    """Say what the printed command takes for granted."""
    taken = [] if url else ["the engine at http://127.0.0.1:8000 (else: --engine-url)"]
    if engine in (None, EngineKind.TRITON):
        taken.append(
            "Triton's model repository in the agent's state directory (else: --triton-repository)"
        )
    return f"It expects {' and '.join(taken)}." if taken else ""


def _engine_flags(engine: str | None, url: str | None) -> list[str]:
    return (["--engine", engine] if engine else []) + (["--engine-url", url] if url else [])


# ------------------------------------------------------------ scheduling


@command("cordon")
@_NAME
@pass_session
def cordon(session: Session, name: str) -> None:
    """Give a cluster no new models; it keeps those it has, and its traffic.

    \b
    Example:
      fed cluster cordon eu-west
    """
    with session.client() as client:
        _schedule(client, name, "cordon")


@command("uncordon")
@_NAME
@pass_session
def uncordon(session: Session, name: str) -> None:
    """Give a cluster traffic and models again.

    \b
    Example:
      fed cluster uncordon eu-west
    """
    with session.client() as client:
        _schedule(client, name, "uncordon")


@command("drain")
@_NAME
@wait_options
@pass_session
def drain(session: Session, name: str, wait: bool, timeout: float) -> None:
    """Take a cluster out of traffic. What it has loaded stays loaded; requests in flight end.

    \b
    Example:
      fed cluster drain eu-west
      fed cluster drain eu-west --wait --timeout 2m
    """
    with session.client() as client:
        _schedule(client, name, "drain")
        if wait:
            wait_for(client, _KIND, name, _busy_since(SystemClock()), timeout_s=timeout)
            note(f"{title(_KIND, name)} has no requests in flight")


@command("remove")
@_NAME
@YES
@pass_session
def remove_cluster(session: Session, name: str, yes: bool) -> None:
    """Remove a cluster from the federation. On a terminal you are asked to type its name.

    \b
    Example:
      fed cluster remove eu-west --yes
    """
    remove(session, _KIND, name, yes=yes)


def _schedule(client: ApiClient, name: str, verb: str) -> None:
    client.send("POST", "api", "v1", "clusters", name, verb)
    done = {"cordon": "cordoned", "uncordon": "uncordoned", "drain": "draining"}[verb]
    put(f"{title(_KIND, name)} {done}")


def _busy_since(clock: Clock) -> Callable[[Json], str]:
    """Return what tells why a cluster that is drained from now on is not idle yet, or "".

    Routers need a moment to hear of it: only a report from after that moment counts.
    """
    started_s = clock.monotonic_s()

    def busy(document: Json) -> str:
        versions = look_list(document, "status", "versions")
        count = sum(look(each, "in_flight") or 0 for each in versions)
        if count:
            return f"{count} requests are in flight"
        age_s = look(document, "status", "last_report_s") or 0.0
        reports = look(document, "status", "lease", "connected")
        if reports and clock.monotonic_s() - age_s < started_s + _SETTLE_S:
            return "its next report is awaited"
        return ""

    return busy
