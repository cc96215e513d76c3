"""Every command block of the README runs as it stands there, in order, against one demo.

The first block (`make demo`) is what starts the demo of this folder's tests; see conftest.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningDemo

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(
    r"^```(sh|python)\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S
)
pytestmark = [pytest.mark.e2e, pytest.mark.triton, pytest.mark.ray, pytest.mark.timeout(420)]


def test_every_fenced_block_is_one_that_runs() -> None:
    fences = re.findall(r"^```(\w*)$", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert [f for f in fences if f] == [language for language, _ in BLOCKS]
    assert len(fences) == 2 * len(BLOCKS)


def test_the_first_block_starts_the_demo_and_the_last_one_checks_the_house() -> None:
    assert BLOCKS[0] == ("sh", "make demo\n")
    assert BLOCKS[-1] == ("sh", "make check\n")


def test_the_blocks_in_order(running_demo: RunningDemo) -> None:
    """The blocks between the first and the last; `make check` is a step of its own in CI."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**running_demo.environ, "PATH": path}
    for language, text in BLOCKS[1:-1]:
        command = ["bash", "-euo", "pipefail", "-c", text]
        if language == "python":
            command = [sys.executable, "-c", text]
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        assert '"error"' not in done.stdout, f"{text}\n{done.stdout}"
