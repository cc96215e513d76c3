import click
import pytest

from federation.cli import rollout_follow
from federation.cli.rollout_start import start
from federation.cli.session import Session
from federation.contract.rollout import Wave
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane
from tests.federation.cli.fake_rollouts import status


@pytest.fixture(autouse=True)
def model(plane: FakeControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    plane.put("models", "m", {"aliases": {"champion": 1}})
    monkeypatch.setattr(rollout_follow, "_pause", lambda: None)


def test_the_flags_make_a_rollout(fed: Fed, plane: FakeControlPlane) -> None:
    words = ("rollout", "start", "m", "--to", "2", "--waves", "eu; *", "--why", "faster")
    result = fed(*words)
    assert (result.code, result.out) == (0, "rollout/m-2 started\n")
    assert "watch it: fed rollout get m-2 -w" in result.err
    (asked,) = plane.rollouts.asked
    assert (asked["name"], asked["why"]) == ("", "faster")
    assert asked["spec"]["version"] == 2
    waves = asked["spec"]["strategy"]["waves"]
    assert [wave["regions"] for wave in waves] == [["eu"], ["*"]]


def test_an_alias_stays_an_alias(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("rollout", "start", "m", "--to", "champion", "--name", "r", "-o", "name").out == (
        "rollout/r\n"
    )
    assert plane.rollouts.asked[0]["spec"]["version"] == "champion"
    assert fed("rollout", "start", "m", "--to", "Not An Alias").code == 1
    assert fed("rollout", "start", "m").code == 2


def test_the_deployments_own_strategy_is_the_base(fed: Fed, plane: FakeControlPlane) -> None:
    strategy = {"steps": [50.0, 100.0], "bake_s": 7.0, "waves": [{"regions": ["eu"]}]}
    plane.put("deployments", "d", {"model": "m", "rollout": strategy})
    assert fed("rollout", "start", "m", "--to", "2", "--bake", "9s").code == 0
    sent = plane.rollouts.asked[0]["spec"]["strategy"]
    assert (sent["steps"], sent["bake_s"], sent["waves"][0]["regions"]) == ([50, 100], 9.0, ["eu"])
    assert Wave().approval is sent["waves"][0]["approval"]


def test_a_mistake_is_told_before_anybody_is_asked(fed: Fed, plane: FakeControlPlane) -> None:
    result = fed("rollout", "start", "m", "--to", "2", "--steps", "25,5")
    assert result.code == 2
    assert "steps must rise, not 25,5" in result.err
    assert plane.requests == []


def test_a_plan_changes_nothing(fed: Fed, plane: FakeControlPlane) -> None:
    result = fed("rollout", "start", "m", "--to", "2", "--dry-run")
    assert result.code == 0
    assert "rollout/m-2 (not started): model m, version 1 -> 2" in result.out
    assert plane.objects["rollouts"] == {}


def test_waiting_ends_with_the_rollout(fed: Fed, plane: FakeControlPlane) -> None:
    def promote() -> None:
        plane.objects["rollouts"]["m-2"]["status"] = status("promoted")

    plane.on_read = promote
    result = fed("rollout", "start", "m", "--to", "2", "--wait")
    assert result.code == 0
    assert "rollout/m-2 was promoted: version 2 serves" in result.err


def test_undo_goes_to_a_number_or_an_alias(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("rollout", "undo", "m", "--why", "ugly").out == "rollout/m-2 started\n"
    assert plane.rollouts.asked[-1] == {"version": 0, "why": "ugly"}
    assert fed("rollout", "undo", "m", "--to", "champion", "--dry-run").out == (
        "rollout/m-3 started (server dry run)\n"
    )
    assert plane.rollouts.asked[-1]["version"] == 1
    missing = fed("rollout", "undo", "m", "--to", "champoin")
    assert missing.code == 3
    assert "Did you mean 'champion'" in missing.err
    assert fed("rollout", "undo", "m", "-o", "json").out.startswith("{")
    assert "rollout/m-4   m 1" in fed("rollout", "undo", "m", "-o", "wide").out


def test_versions_and_aliases_are_completed(
    fed: Fed, plane: FakeControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane.put(
        "models", "m", {"aliases": {"champion": 1}}, {"versions": [{"version": 1}, {"version": 12}]}
    )

    def offered(model: str, incomplete: str) -> list[str]:
        ctx = click.Context(start, obj=Session())
        ctx.params["model"] = model
        (option,) = [param for param in start.params if param.name == "version"]
        return [item.value for item in option.shell_complete(ctx, incomplete)]

    assert offered("m", "") == ["champion", "12", "1"]
    assert offered("m", "1") == ["12", "1"]
    assert offered("nothing", "") == []
