import os
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from federation.cli.join import Invitation, JoinFile, agent_command, router_command
from federation.contract.errors import Invalid

TOKEN = "fed_join_eu-west_se'cret"


PIN = f"sha256:{'ab' * 32}"


def invitation(
    *, token: str = "", endpoint: str = "https://cp.example:7480", control_plane: str | None = None
) -> Invitation:
    return Invitation(
        endpoint=endpoint,
        control_plane=control_plane,
        pin=PIN,
        token=token,
        token_file="eu-west.join-token",
    )


def command(
    *, token: str = "", endpoint: str = "https://cp.example:7480", control_plane: str | None = None
) -> str:
    found = invitation(token=token, endpoint=endpoint, control_plane=control_plane)
    return agent_command("eu-west", found, extra=["--engine", "triton"])


def test_the_command_names_everything_the_agent_needs() -> None:
    assert shlex.split(command()) == [
        "fed-edge-agent",
        *("--cluster", "eu-west"),
        *("--control-plane", "cp.example:7481"),
        *("--control-plane-url", "https://cp.example:7480"),
        *("--ca-pin", PIN),
        *("--join-token-file", "eu-west.join-token"),
        *("--engine", "triton"),
    ]
    assert "--control-plane other:99 " in command(control_plane="other:99")
    assert "--control-plane cp.example:7481 " in command(endpoint="https://cp.example/fed")
    assert "--control-plane '[::1]:7481'" in command(endpoint="http://[::1]:7480")


def test_a_router_needs_the_same_but_an_engine() -> None:
    assert shlex.split(router_command("pop-1", invitation())) == [
        "fed-router",
        *("--name", "pop-1"),
        *("--control-plane", "cp.example:7481"),
        *("--control-plane-url", "https://cp.example:7480"),
        *("--ca-pin", PIN),
        *("--join-token-file", "eu-west.join-token"),
    ]


def test_an_invitation_does_not_show_its_token() -> None:
    assert TOKEN not in repr(invitation(token=TOKEN))


def test_pasted_into_a_shell_it_writes_the_token_for_its_owner_only(tmp_path: Path) -> None:
    line = command(token=TOKEN).replace("fed-edge-agent", "true")
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True, timeout=10)
    written = tmp_path / "eu-west.join-token"
    assert written.read_text() == TOKEN
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert TOKEN not in line.partition("&&")[2]


def test_the_file_is_new_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "token"
    old = os.umask(0)
    try:
        with JoinFile(str(path)) as file:
            file.write(TOKEN)
    finally:
        os.umask(old)
    assert path.read_text() == f"{TOKEN}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(Invalid, match="exists already"), JoinFile(str(path)):
        pass
    assert path.read_text() == f"{TOKEN}\n"


def test_no_empty_file_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(ZeroDivisionError), JoinFile(str(path)):
        raise ZeroDivisionError
    assert not path.exists()
    with pytest.raises(Invalid, match="cannot write"), JoinFile(str(tmp_path / "no" / "token")):
        pass
    with JoinFile(None) as none:
        none.write(TOKEN)
