"""What registering a cluster and registering a router have in common.

Input: the options of the join token, the spec to register. Output: the one line to paste where the
newcomer is; the token is in it, or in a file, and nowhere else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from federation.cli.client import ApiClient
from federation.cli.documents import Json, title
from federation.cli.join import Invitation, JoinFile
from federation.cli.options import DurationType, output_option
from federation.cli.output import Format, note, put, put_value
from federation.contract.resources import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketOptions:
    """What the operator wants of the join token, and how the answer is shown."""

    rejoin: bool
    require_accept: bool
    token_ttl: float
    token_file: str | None
    control_plane: str | None
    output: Format


def ticket_options(noun: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare the options of a registration; the command gets them as `ticket`."""
    options = [
        click.option("--rejoin", is_flag=True, help=f"Let a known {noun} join anew."),
        click.option(
            "--require-accept", is_flag=True, help=f"Who joins waits for `fed {noun} accept`."
        ),
        click.option(
            "--token-ttl", type=DurationType(), default="1h", show_default=True, help="At most 1h."
        ),
        click.option(
            "--token-file",
            "--join-token-file",
            "token_file",
            metavar="FILE",
            help="Write the join token to this new file (mode 0600) instead of printing it.",
        ),
        click.option(
            "--control-plane",
            metavar="HOST:PORT",
            help="What it dials (gRPC).  [default: the endpoint's host, the port after its own]",
        ),
        output_option(formats=(Format.TABLE, Format.JSON, Format.YAML)),
    ]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def collect(*words: Any, **said: Any) -> None:
            names = TicketOptions.__dataclass_fields__
            ticket = TicketOptions(**{name: said.pop(name) for name in names})
            function(*words, ticket=ticket, **said)

        wrapped: Callable[..., None] = collect
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def invite(
    client: ApiClient,
    target: tuple[Kind, str],
    spec: Json,
    ticket: TicketOptions,
    line: Callable[[Invitation], str],
) -> None:
    """Register, and show the line that `line` makes of the invitation; raises FederationError."""
    kind, name = target
    with JoinFile(ticket.token_file) as file:
        answer = client.send(
            "POST",
            *("api", "v1", kind.plural, name, "register"),
            content={
                "spec": spec,
                "rejoin": ticket.rejoin,
                "requireAccept": ticket.require_accept,
                "tokenTtlSeconds": int(ticket.token_ttl),
            },
        )
        token = str(answer.get("joinToken") or "")
        file.write(token)
        invitation = Invitation(
            endpoint=client.endpoint,
            control_plane=ticket.control_plane,
            pin=str(answer.get("caPin") or ""),
            token="" if file.path else token,
            token_file=file.path or f"{name}.join-token",
        )
    shown = line(invitation)
    if ticket.output is Format.TABLE:
        note(f"{title(kind, name)} registered; its join token expires at {answer['expiresAt']}.")
        note("Run this on its machine:")
        put(shown)
        return
    if file.path:
        answer.pop("joinToken", None)
    put_value({**answer, "command": shown}, ticket.output)
