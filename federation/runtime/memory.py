"""How the C library keeps memory for threads.

Input: nothing. Output: a setting of this process.
"""

import ctypes

_M_ARENA_MAX = -8  # mallopt(3)


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
