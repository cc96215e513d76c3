"""How the C library keeps memory for threads, and asyncio for connections.

Input: nothing. Output: settings of this process.
"""

import contextlib
import ctypes
import gc
from asyncio import sslproto
from collections.abc import Iterator

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # mallopt(3)
_TLS_READ_BYTES = 64 << 10


def share_one_arena() -> bool:
    """Have all threads take memory from one arena; returns whether the C library knows of arenas.

    glibc otherwise gives each of up to 8 threads a core an arena of its own, and what one frees
    helps no other: a process with a few dozen threads that mostly wait grows for nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    return bool(mallopt(_M_ARENA_MAX, 1))


def keep_freed(*, trim_bytes: int, map_bytes: int) -> bool:
    """Have the C library keep up to `trim_bytes` that were freed, and take blocks of up to
    `map_bytes` from what it keeps; returns whether it knows of that.

    glibc otherwise gives large blocks back to the system at once: a megabyte that is taken and
    freed for each request costs as much in page faults as in copying.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, trim_bytes) and mallopt(_M_MMAP_THRESHOLD, map_bytes))


def read_tls_in_small_blocks() -> None:
    """Have asyncio keep 64 KiB for each TLS connection that is made from now on, instead of 256.

    It fills the block with zeros, so that an idle connection takes all of it. uvloop does not.
    """
    sslproto.SSLProtocol.max_size = _TLS_READ_BYTES


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Have Python not look for cycles of garbage meanwhile: with ten thousands of new objects that
    stay, a search finds nothing and holds up everything for tens of milliseconds."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def spare_from_collection() -> None:
    """Have Python never look for cycles among the objects that there are now. Those that nobody
    refers to any more are freed as before; cycles that become garbage later are not."""
    gc.freeze()
