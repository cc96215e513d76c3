"""The parts that both registrations share; the commands themselves are in their own tests."""

import click
import pytest
from click.testing import CliRunner

from federation.cli.inviting import TicketOptions, ticket_options
from federation.cli.output import Format


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (
            [],
            TicketOptions(
                rejoin=False,
                require_accept=False,
                token_ttl=3600,
                token_file=None,
                control_plane=None,
                output=Format.TABLE,
            ),
        ),
        (
            [
                "--rejoin",
                "--require-accept",
                "--token-ttl",
                "5m",
                "--join-token-file",
                "f",
                "--control-plane",
                "cp:1",
                "-o",
                "json",
            ],
            TicketOptions(
                rejoin=True,
                require_accept=True,
                token_ttl=300,
                token_file="f",
                control_plane="cp:1",
                output=Format.JSON,
            ),
        ),
    ],
)
def test_a_command_gets_its_ticket_beside_its_own_words(
    words: list[str], wanted: TicketOptions
) -> None:
    got: list[tuple[str, TicketOptions]] = []

    @click.command()
    @click.argument("name")
    @ticket_options("cluster")
    def register(name: str, ticket: TicketOptions) -> None:
        got.append((name, ticket))

    result = CliRunner().invoke(register, ["eu", *words])
    assert result.exit_code == 0, result.output
    assert got == [("eu", wanted)]
