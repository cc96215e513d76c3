from pathlib import Path

import click
import pytest

from federation.cli.session import Session, command, session_of
from federation.contract.errors import Invalid


@command("probe")
@click.option("--token-file", "out", help="An option of its own of the same name.")
@click.pass_context
def probe(ctx: click.Context, out: str | None) -> None:
    """Show what was understood."""
    click.echo(f"{session_of(ctx).flags} {out}")


def test_a_command_keeps_its_own_option_of_a_global_name() -> None:
    session = Session()
    arguments = ["--endpoint", "http://x", "--token-file", "mine"]
    probe.main(arguments, standalone_mode=False, obj=session)
    assert session.flags == {"endpoint": "http://x"}


def test_a_client_has_the_endpoint_and_hides_the_token(
    clean_environment: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("fed_admin_root_topsecret")
    session = Session()
    session.flags |= {"endpoint": "http://127.0.0.1:7/", "token_file": str(token)}
    with session.client() as client:
        assert client.endpoint == "http://127.0.0.1:7"
        assert repr(client) == "ApiClient(http://127.0.0.1:7, token=yes)"
    assert session.config_path() == clean_environment


def test_a_bad_endpoint_or_token_file_is_refused(clean_environment: Path) -> None:
    session = Session()
    session.flags["endpoint"] = "nonsense"
    with pytest.raises(Invalid, match="no endpoint"):
        session.client()
    session.flags |= {"endpoint": "http://x", "token_file": "/absent"}
    with pytest.raises(Invalid, match="cannot read the token file"):
        session.client()
