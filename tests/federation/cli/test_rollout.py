import click

from federation.cli.rollout import rollout


def test_every_command_is_there() -> None:
    ctx = click.Context(rollout)
    for name in rollout.list_commands(ctx):
        found = rollout.get_command(ctx, name)
        assert found is not None
        assert found.name == name
