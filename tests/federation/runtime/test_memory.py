"""Threads share one arena where there are arenas."""

import subprocess
import sys

import pytest

# Each thread keeps 4 MB of small objects and then frees every second one: with an arena each, the
# maps of the process show one 64 MiB reservation per arena.
PROGRAM = """
import sys, threading
from federation.runtime.memory import share_one_arena
if sys.argv[1] == "one":
    assert share_one_arena()
gate = threading.Barrier(9)
def work():
    kept = [bytes(600 + n % 7) for n in range(6000)]
    gate.wait(20)
    gate.wait(20)
    del kept
threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads:
    t.start()
gate.wait(20)
arenas = 0
for line in open("/proc/self/maps"):
    span, mode = line.split()[:2]
    first, last = (int(end, 16) for end in span.split("-"))
    arenas += mode.startswith("rw") and first % (64 << 20) == 0 and last - first >= 1 << 20
print(arenas)
gate.wait(20)
"""


def _arenas(how: str) -> int:
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="arenas are glibc's")
def test_threads_share_one_arena() -> None:
    assert _arenas("many") >= 4
    assert _arenas("one") == 0
