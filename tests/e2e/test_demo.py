"""The whole story, as `fed demo --check` plays it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import FED


@pytest.mark.e2e
@pytest.mark.triton
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_whole_story(tmp_path: Path) -> None:
    """Nothing may ever be lost. Times are judged on the better of two runs: machines are shared."""
    done = _check(tmp_path)
    if "SLOW" in done.stdout and "FAILED" not in done.stdout:
        print(done.stdout)
        done = _check(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing left behind" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def _check(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FED, "demo", "--check"],
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=440,
        check=False,
    )
