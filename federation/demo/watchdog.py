"""The demo's last will: what happens to its processes when it is killed itself.

Input: lines on stdin, `+GROUP` and `-GROUP` as process groups start and end, `keep`. Output: when
stdin ends, every group still known is killed and the run directory removed. A demo that stops in
good order has told of every end before, so that nothing is left to do. Runs as a process of its
own, because no process can clean up after its own SIGKILL.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from federation.demo.shared_memory import sweep

_DYING_S = 0.5


def watch(lines: Iterable[str], run_directory: Path) -> None:
    """Follow the lines to their end, then clean up."""
    groups: set[int] = set()
    keep = False
    for line in lines:
        word = line.strip()
        if word == "keep":
            keep = True
        elif word.startswith("+"):
            groups.add(int(word[1:]))
        elif word.startswith("-"):
            groups.discard(int(word[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    if groups:
        time.sleep(_DYING_S)
        sweep()
    if not keep:
        shutil.rmtree(run_directory, ignore_errors=True)


if __name__ == "__main__":
    watch(sys.stdin, Path(sys.argv[1]))
