"""Threads that step behind others of the same process and machine when cores are short.

Input: nothing. Output: how the kernel schedules the calling thread.
"""

import ctypes
import os
import platform

# A little more than what threads have that ask for nothing (2.8 ms at most). Since Linux 6.12 who
# wakes up takes the core from a thread with a longer slice at once, not at the end of that slice.
SLICE_NS = 4_000_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}  # glibc has it since 2.41 only


class _Attributes(ctypes.Structure):
    """See sched_setattr(2), first version. For who shares the cores, `runtime` is the slice."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def step_behind() -> bool:
    """Have the calling thread take no core from others when it wakes up, and give its own to who
    wakes up there; returns whether the system can.

    It keeps its share of the cores, so that who waits for a lock that it holds waits hardly longer
    than before: a lower share (nice, SCHED_IDLE) could keep the interpreter's lock from the event
    loop for as long as other processes fill the cores. See sched(7), SCHED_BATCH.
    """
    try:
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            return False  # somebody has chosen for this process
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or a sandbox that forbids it
        return False
    _take_slices(SLICE_NS)
    return True


def _take_slices(nanoseconds: int) -> None:
    """Have the calling thread run for so long at a time when others wait, if the system can."""
    if (number := _SCHED_SETATTR.get(platform.machine())) is None:
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)  # of the thread, on Linux
    asked = _Attributes(
        size=ctypes.sizeof(_Attributes), policy=os.SCHED_BATCH, nice=nice, runtime=nanoseconds
    )
    ctypes.CDLL(None).syscall(number, 0, ctypes.byref(asked), 0)  # older kernels ignore the slice
