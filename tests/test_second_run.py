import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

UNLUCKY = """
runs = []

def test_once():
    runs.append(1)
    assert len(runs) > 1, "bad luck"

def test_always():
    assert False
"""


def test_first_failures_are_told_and_second_ones_fail(tmp_path: Path) -> None:
    (tmp_path / "test_unlucky.py").write_text(UNLUCKY)
    options = ["-p", "tests.second_run", "-p", "no:cacheprovider", "-p", "no:randomly"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--reruns", "1", *options, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    told = done.stdout[done.stdout.index("failed at first, and run again") :]
    assert "test_unlucky.py::test_once (call)" in told
    assert "bad luck" in told
    assert "1 failed, 1 passed, 2 rerun" in told
