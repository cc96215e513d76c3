"""How the C library keeps memory for threads, and asyncio for connections.

Input: nothing. Output: settings of this process.
"""

import ctypes
from asyncio import sslproto

_M_ARENA_MAX = -8  # mallopt(3)
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


def read_tls_in_small_blocks() -> None:
    """Have asyncio keep 64 KiB for each TLS connection that is made from now on, instead of 256.

    It fills the block with zeros, so that an idle connection takes all of it. uvloop does not.
    """
    sslproto.SSLProtocol.max_size = _TLS_READ_BYTES
