"""`fed completion`: the script that teaches a shell to complete `fed`, live names included.

Input: the name of the shell. Output: a script on stdout.
"""

import click
from click.shell_completion import get_completion_class

from federation.cli.output import put
from federation.cli.session import command


@command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script; it completes the names of existing objects as well.

    \b
    Example:
      source <(fed completion bash)
      fed completion zsh > "${fpath[1]}/_fed"
      fed completion fish > ~/.config/fish/completions/fed.fish
    """
    cls = get_completion_class(shell)
    if cls is None:
        raise click.UsageError(f"no completion for {shell!r}.")
    put(cls(ctx.find_root().command, {}, "fed", "_FED_COMPLETE").source())
