import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from federation.contract.errors import Conflict, Invalid, Unavailable
from federation.demo import control
from federation.demo.control import Json, NoDemo


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


async def _handle(verb: str, target: str) -> Json:
    if target == "nowhere":
        raise Invalid("the demo has no 'nowhere'.", hint="There are: eu-west.")
    return {"done": [f"{verb} {target}"]}


def _note(socket: Path, pid: int) -> None:
    control.write_state(control.state_path("demo"), {"pid": pid, "socket": str(socket)})


async def test_a_question_reaches_the_demo_and_its_refusal_comes_back(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    async with await control.serve(socket, _handle):
        _note(socket, os.getpid())
        answer = await asyncio.to_thread(control.ask, "demo", "kill", "eu-west")
        assert answer == {"done": ["kill eu-west"]}
        with pytest.raises(Invalid) as refusal:
            await asyncio.to_thread(control.ask, "demo", "kill", "nowhere")
        assert refusal.value.hint == "There are: eu-west."
        with pytest.raises(Conflict, match="running already"):
            control.refuse_second("demo")


async def test_a_malformed_question_is_answered(tmp_path: Path) -> None:
    async with await control.serve(tmp_path / "s", _handle):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b"[]\n")
        async with asyncio.timeout(5):
            assert json.loads(await reader.read()) == {"error": "the request is malformed."}
        writer.close()


def test_without_a_demo_the_error_says_how_to_start_one() -> None:
    with pytest.raises(NoDemo) as missing:
        control.ask("demo", "status")
    assert missing.value.sentence() == "no demo is running. Start one with: fed demo"
    control.refuse_second("demo")  # nothing to refuse


def test_the_note_of_a_demo_that_died_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    _note(tmp_path / "s", dead.pid)
    with pytest.raises(NoDemo):
        control.read_state("demo")
    assert not control.state_path("demo").exists()


def test_the_note_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    _note(tmp_path / "s", os.getpid())
    assert control.state_path("demo").stat().st_mode & 0o777 == 0o600


def test_waiting_for_the_end_of_a_process() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    control.wait_gone(dead.pid)
    with pytest.raises(Unavailable, match="has not ended"):
        control.wait_gone(os.getpid(), limit_s=0.2)
