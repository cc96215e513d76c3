import json

import pytest

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane
from tests.federation.cli.fake_rollouts import status


@pytest.fixture(autouse=True)
def going(plane: FakeControlPlane) -> None:
    plane.put("rollouts", "m-2", {"model": "m", "version": 2}, status())


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        ("pause", "paused"),
        ("resume", "goes on"),
        ("promote", "promoted a step further"),
        ("approve", "approved"),
        ("abort", "goes back"),
    ],
)
def test_each_verb_is_a_call(fed: Fed, plane: FakeControlPlane, verb: str, told: str) -> None:
    result = fed("rollout", verb, "m-2", "--why", "because")
    assert (result.code, result.out) == (0, f"rollout/m-2 {told}\n")
    assert plane.methods == [f"POST /api/v1/rollouts/m-2/{verb}"]
    assert plane.rollouts.asked[0]["why"] == "because"
    assert "because" in result.err


def test_a_model_names_its_rollout_too(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("rollout", "abort", "m", "-o", "name").out == "rollout/m-2\n"
    missing = fed("rollout", "abort", "x")
    assert missing.code == 3
    assert "rollout 'x' is unknown" in missing.err


def test_full_and_dry_run(fed: Fed, plane: FakeControlPlane) -> None:
    told = fed("rollout", "promote", "m", "--full", "--dry-run")
    assert told.out == "rollout/m-2 promoted to the end (server dry run)\n"
    assert plane.rollouts.asked[0]["full"] is True
    assert plane.objects["rollouts"]["m-2"]["status"]["phase"] == "baking"
    assert json.loads(fed("rollout", "pause", "m", "-o", "json").out)["status"]["phase"] == "paused"
