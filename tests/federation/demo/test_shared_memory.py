import mmap
import os
import sys
from pathlib import Path

import pytest

from federation.demo.shared_memory import sweep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm is of Linux")


def test_old_regions_that_nobody_maps_go_and_others_stay() -> None:
    folder = Path("/dev/shm")
    names = [f"triton_python_backend_shm_region_test-{os.getpid()}-{i}" for i in range(3)]
    old, young, mapped = (folder / name for name in names)
    try:
        for path in (old, young, mapped):
            path.write_bytes(b"x" * 4096)
        for path in (old, mapped):
            os.utime(path, (1, 1))
        with mapped.open("r+b") as file, mmap.mmap(file.fileno(), 4096):
            swept = sweep()
        assert old.name in swept
        assert young.exists()
        assert mapped.exists()
    finally:
        for path in (old, young, mapped):
            path.unlink(missing_ok=True)
