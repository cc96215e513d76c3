from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane
from tests.federation.cli.fake_rollouts import status


def test_of_a_models_rollouts_the_one_that_goes_on_is_meant(
    fed: Fed, plane: FakeControlPlane
) -> None:
    plane.put("rollouts", "a", {"model": "m", "version": 2}, status())
    plane.put("rollouts", "b", {"model": "m", "version": 3}, status("failed"))
    assert fed("rollout", "get", "m", "-o", "name").out == "rollout/a\n"
    plane.put("rollouts", "a", {"model": "m", "version": 2}, status("promoted"))
    plane.put("rollouts", "b", {"model": "m", "version": 3}, status("failed"))
    assert fed("rollout", "get", "m", "-o", "name").out == "rollout/b\n"
    # A rollout's own name goes before a model's.
    plane.put("rollouts", "m", {"model": "n", "version": 1}, status())
    assert fed("rollout", "get", "m", "-o", "name").out == "rollout/m\n"
