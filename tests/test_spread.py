import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.spread import HEAVY, WHOLE, group_of

ROOT = Path(__file__).resolve().parents[1]

LIGHT = """
import pytest

@pytest.mark.parametrize("n", range(4))
def test_one(n): pass
"""


def test_a_file_is_a_group_and_all_heavy_ones_are_one() -> None:
    assert group_of("tests/test_house.py::test_a[x::y]") == "tests/test_house.py"
    assert group_of("tests/e2e/test_demo.py::test_a") == WHOLE
    assert all((ROOT / path).exists() for path in HEAVY)


def test_whatever_starts_ray_or_a_federation_is_heavy(request: pytest.FixtureRequest) -> None:
    """As far as this run has collected it."""
    marked = {
        item.nodeid
        for item in request.session.items
        if item.get_closest_marker("ray") or item.get_closest_marker("e2e")
    }
    assert {group_of(node) for node in marked} <= {WHOLE}, marked


def test_heavy_tests_come_first_in_one_process_and_a_file_stays_together(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    names = ["tests/a/test_a.py", "tests/a/test_b.py", "tests/e2e/test_y.py", "tests/e2e/test_z.py"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(LIGHT)
    options = ["-p", "tests.spread", "-p", "no:cacheprovider", "-p", "no:randomly"]
    spread = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-v"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *spread, *names],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ran = re.findall(r"\[(gw\d)\].* PASSED tests/(\w+)/test_(\w)\.py", done.stdout)
    assert len(ran) == 16, done.stdout
    where: dict[str, set[str]] = {}
    for worker, folder, file in ran:
        where.setdefault(folder if folder == "e2e" else file, set()).add(worker)
    assert all(len(workers) == 1 for workers in where.values()), where
    (heavy,) = where["e2e"]
    assert next(folder for worker, folder, _ in ran if worker == heavy) == "e2e"
