"""What a killed Triton leaves in /dev/shm.

Input: the files there and the memory maps of our processes. Output: those of Triton's Python
backend that nobody has mapped any more are removed; it does so itself unless it dies by SIGKILL.
"""

import contextlib
import os
from pathlib import Path

from federation.runtime.clock import Clock, SystemClock

_FOLDER = Path("/dev/shm")  # noqa: S108 - the kernel's own name
_PATTERN = "triton_python_backend_shm_region_*"
_YOUNG_S = 5.0  # a server that is starting creates its file before it maps it


def sweep(folder: Path = _FOLDER, *, clock: Clock | None = None) -> list[str]:
    """Remove our own regions that no process of ours has mapped; return their names."""
    now_s = (clock or SystemClock()).utc().timestamp()
    candidates = []
    for path in folder.glob(_PATTERN):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            if stat.st_uid == os.getuid() and now_s - stat.st_mtime > _YOUNG_S:
                candidates.append(path)
    mapped = _mapped_names() if candidates else set()
    unused = [path for path in candidates if path.name not in mapped]
    for path in unused:
        path.unlink(missing_ok=True)
    return [path.name for path in unused]


def _mapped_names() -> set[str]:
    """Return the names of all files in /dev/shm that some process of ours has mapped."""
    names: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
            names |= {line.rpartition("/")[2].split()[0] for line in lines if "/dev/shm/" in line}  # noqa: S108
    return names
