"""Threads share one arena where there are arenas, and idle connections take little."""

import asyncio
import gc
import platform
import ssl
import subprocess
import sys
from asyncio import sslproto

import pytest

from federation.runtime.memory import (
    keep_freed,
    no_collection,
    read_tls_in_small_blocks,
    spare_from_collection,
)

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
arenas, before = 0, None
for line in open("/proc/self/maps"):
    span, mode = line.split()[:2]
    first, last = (int(end, 16) for end in span.split("-"))
    if mode.startswith("---") and before and before[1] == first:  # what is in use, and the rest
        arenas += before[0] % (64 << 20) == 0 and last - before[0] == 64 << 20
    before = (first, last) if mode.startswith("rw") else None
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


async def test_a_tls_connection_takes_a_small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sslproto.SSLProtocol, "max_size", sslproto.SSLProtocol.max_size)
    read_tls_in_small_blocks()
    loop = asyncio.get_running_loop()
    context, done = ssl.create_default_context(), loop.create_future()
    made = sslproto.SSLProtocol(loop, asyncio.Protocol(), context, done, call_connection_made=False)
    assert memoryview(made.get_buffer(-1)).nbytes == 64 << 10
    assert memoryview(made.get_buffer(1 << 20)).nbytes == 64 << 10
    made.connection_lost(None)  # or it complains that it was not closed
    done.cancel()


def test_freed_memory_is_kept_where_the_c_library_can() -> None:
    kept = keep_freed(trim_bytes=16 << 20, map_bytes=4 << 20)
    assert kept or platform.libc_ver()[0] != "glibc"


def test_no_garbage_is_looked_for_meanwhile_and_it_is_again_after_an_error() -> None:
    with pytest.raises(ValueError, match="x"), no_collection():
        assert not gc.isenabled()
        raise ValueError("x")
    assert gc.isenabled()
    gc.disable()
    try:
        with no_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_is_spared_is_not_looked_at() -> None:
    before = gc.get_freeze_count()
    kept: list[list[object]] = [[] for _ in range(100)]
    spare_from_collection()
    assert gc.get_freeze_count() >= before + len(kept)
    gc.unfreeze()
