"""Rollouts on real engines under load, as `fed demo rollout` plays them.

FED_TEST_FAULTS names the bad versions, with commas. One that fails one request in twenty takes a
minute or two to be found out: it is played where it is named.
"""

import os
import subprocess

import pytest

from tests.e2e.conftest import FED, RunningDemo

FAULTS = os.environ.get("FED_TEST_FAULTS", "slow,load,crash,wrong").split(",")
CHECKS = 5 + 3 * len(FAULTS)


@pytest.mark.e2e
@pytest.mark.triton
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_a_good_version_goes_out_and_bad_ones_are_found_out(running_demo: RunningDemo) -> None:
    """One that is slow, cannot load, crashes or answers wrongly is stopped in the first wave;
    nobody's request fails while a good one goes out."""
    done = subprocess.run(
        [
            *(FED, "demo", "rollout", "--bake", "3", "--rate", "40"),
            *(word for fault in FAULTS for word in ("--fault", fault)),
        ],
        env=running_demo.environ,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{CHECKS} of {CHECKS} checks passed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
