"""A click group that imports a command's module only when that command is used.

Input: a table of command name -> ("module:attribute", short help). Output: click commands; the help
page of the group is made from the table alone, which keeps `fed --help` fast.
"""

import importlib
from collections.abc import Mapping

import click

from federation.contract.names import did_you_mean

Table = Mapping[str, tuple[str, str]]


class LazyGroup(click.Group):
    """A group over a table of commands that are not imported yet."""

    def __init__(self, name: str, table: Table, *, help: str, epilog: str = "") -> None:
        super().__init__(name, help=help, epilog=epilog or None)
        self.table = table

    def __repr__(self) -> str:
        return f"LazyGroup({self.name}, {sorted(self.table)})"

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None when the table lacks it."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` start with; raises UsageError with near misses."""
        word = args[0]
        if word not in self.table and not word.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(
                f"there is no command {word!r}. {did_you_mean(word, self.table)}", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])
