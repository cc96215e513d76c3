"""The whole story, as `fed demo --check` plays it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from federation.demo.story import LIMIT_MS
from tests.e2e.conftest import FED

_BESIDE_OTHERS = "PYTEST_XDIST_WORKER" in os.environ


@pytest.mark.e2e
@pytest.mark.triton
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_whole_story(tmp_path: Path) -> None:
    """Nothing may ever be lost. Times are judged on the better of two runs: machines are shared;
    while other tests run beside it, times may be three times the limit."""
    done = _check(tmp_path)
    slow = "SLOW" in done.stdout and "FAILED" not in done.stdout
    if slow and _BESIDE_OTHERS:
        assert _worst_ms(done.stdout) <= 3 * LIMIT_MS, done.stdout
    elif slow:
        print(done.stdout)
        done = _check(tmp_path)
    assert done.returncode == 0 or (slow and _BESIDE_OTHERS), done.stdout + done.stderr
    assert "nothing left behind" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def _worst_ms(told: str) -> float:
    rows = [line for line in told.splitlines() if line.split()[:1] == ["SLOW"]]
    return max(float(p99) for line in rows for p99 in re.findall(r"p99 ([0-9]+) ms", line))


def _check(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FED, "demo", "--check"],
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=440,
        check=False,
    )
