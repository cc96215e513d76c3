"""The whole story, as `fed demo --check` plays it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import FED


@pytest.mark.e2e
@pytest.mark.triton
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_the_whole_story(tmp_path: Path) -> None:
    done = subprocess.run(
        [FED, "demo", "--check"],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert "nothing left behind" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
