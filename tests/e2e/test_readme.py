"""Every command block of the README runs as it stands there, in order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, demo_started_by

BLOCKS = re.findall(
    r"^```(sh|python)\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S
)
pytestmark = [pytest.mark.e2e, pytest.mark.triton, pytest.mark.ray, pytest.mark.timeout(420)]


def test_every_fenced_block_is_one_that_runs() -> None:
    fences = re.findall(r"^```(\w*)$", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert [f for f in fences if f] == [language for language, _ in BLOCKS]
    assert len(fences) == 2 * len(BLOCKS)


def test_the_blocks_in_order(tmp_path: Path) -> None:
    """The first one starts the demo; the last one, `make check`, is a step of CI of its own."""
    assert BLOCKS[0] == ("sh", "make demo\n")
    assert BLOCKS[-1] == ("sh", "make check\n")
    with demo_started_by(["bash", "-c", BLOCKS[0][1]], tmp_path, VENV=sys.prefix) as demo:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environ = {**demo.environ, "PATH": path}
        del environ["FED_CONFIG"]  # the README itself leads to it
        for language, text in BLOCKS[1:-1]:
            environ = _run(language, text, environ, tmp_path / "environ")


def _run(language: str, text: str, environ: dict[str, str], left: Path) -> dict[str, str]:
    """Run a block, as in one terminal: return the environment that it leaves behind."""
    left.write_bytes(b"\0".join(f"{name}={value}".encode() for name, value in environ.items()))
    command = ["bash", "-euo", "pipefail", "-c", f"{text}\nenv -0 > {left}"]
    if language == "python":
        command = [sys.executable, "-c", text]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    assert '"error"' not in done.stdout, f"{text}\n{done.stdout}"
    pairs = (entry.partition("=") for entry in left.read_text().split("\0") if entry)
    return {name: value for name, _, value in pairs}
