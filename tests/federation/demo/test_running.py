import sys
from pathlib import Path

import pytest

from federation.contract.errors import Invalid, Unavailable
from federation.demo import launch
from federation.demo.processes import Command
from tests.federation.demo.fakes import idle_demo, small_plan

_SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


async def test_a_region_is_its_engine_and_its_agent(tmp_path: Path) -> None:
    async with idle_demo(tmp_path) as demo:
        assert demo.members("eu-west") == ("triton-eu-west", "agent-eu-west")
        assert demo.members("router-us") == ("router-us",)
        with pytest.raises(Invalid, match="no 'eu-wset'") as refusal:
            demo.members("eu-wset")
        assert "'eu-west'" in refusal.value.hint
        with pytest.raises(Invalid, match="not started yet"):
            await demo.kill("eu-west")


async def test_kill_holds_all_of_a_region_and_restore_lets_it_start(tmp_path: Path) -> None:
    async with idle_demo(tmp_path) as demo:
        for name in demo.members("eu-west"):
            demo.processes.start(Command(name=name, argv=_SLEEP, grace_s=0))
        assert await demo.kill("eu-west") == ("triton-eu-west", "agent-eu-west")
        assert {row["state"] for row in demo.processes.report()} == {"held"}
        demo.restore("eu-west")
        assert "held" not in {row["state"] for row in demo.processes.report()}


async def test_a_region_can_be_cut_off_and_healed(tmp_path: Path) -> None:
    async with idle_demo(tmp_path) as demo:
        await demo.open_lanes()
        assert await demo.cut("eu-west") == ("eu to eu-west", "us to eu-west")
        up = {row["lane"]: row["up"] for row in demo.lane_report()}
        assert up == {
            "eu to eu-west": False,
            "us to eu-west": False,
            "us-east to eu": True,
            "us-east to us": True,
        }
        await demo.heal("eu-west")
        assert all(row["up"] for row in demo.lane_report())
        with pytest.raises(Invalid, match="no region 'router-eu'"):
            await demo.cut("router-eu")


async def test_a_process_that_does_not_stay_up_ends_the_start_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "port 7480 is in use"
    broken = Command(name="control-plane", argv=("/bin/sh", "-c", f"echo {words}; exit 1"))
    monkeypatch.setattr(launch, "control_plane", lambda plan, layout: broken)
    monkeypatch.setattr("federation.demo.processes.RESTART_AFTER_S", 0.05)
    async with idle_demo(tmp_path, small_plan(triton=1, ray=0)) as demo:
        with pytest.raises(Unavailable, match=f"control-plane does not stay up: {words}"):
            await demo.up()
    assert (tmp_path / "logs" / "control-plane.log").read_text().startswith(words)


async def test_stopping_removes_all_files(tmp_path: Path) -> None:
    root = tmp_path / "run"
    async with idle_demo(root) as demo:
        await demo.open_lanes()
        assert root.exists()
    assert not root.exists()
