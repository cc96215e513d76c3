"""Rollouts on real engines under load, as `fed demo rollout` plays them."""

import subprocess

import pytest

from tests.e2e.conftest import FED, RunningDemo


@pytest.mark.e2e
@pytest.mark.triton
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_a_good_version_goes_out_and_bad_ones_are_found_out(running_demo: RunningDemo) -> None:
    """One that is slow, fails, cannot load, crashes or answers wrongly is stopped in the first
    wave; nobody's request fails while a good one goes out."""
    done = subprocess.run(
        [FED, "demo", "rollout", "--bake", "3", "--rate", "40"],
        env=running_demo.environ,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 of 20 checks passed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
