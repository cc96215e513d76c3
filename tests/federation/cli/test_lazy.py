import sys

import click
import pytest

from federation.cli.lazy import LazyGroup

MODULE = "wsgiref.util"  # of the standard library, and imported by nothing else here


def group() -> LazyGroup:
    return LazyGroup("tool", {"late": (f"{MODULE}:guess_scheme", "Come late.")}, help="A tool.")


def test_help_imports_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    one = group()
    shown = click.Context(one, info_name="tool").command.get_help(click.Context(one))
    assert "late  Come late." in shown
    assert MODULE not in sys.modules
    assert one.get_command(click.Context(one), "late") is not None
    assert MODULE in sys.modules


def test_an_unknown_command_is_answered_with_near_misses() -> None:
    one = group()
    with pytest.raises(click.UsageError, match="Did you mean 'late'"):
        one.main(["lat"], standalone_mode=False)
    assert one.get_command(click.Context(one), "lat") is None
