"""Threads that work in the background keep their share of the cores, and take none from others."""

import ctypes
import os
import platform
import sys
import threading

import pytest

from federation.runtime import background
from federation.runtime.background import SLICE_NS, step_behind

linux = pytest.mark.skipif(sys.platform != "linux", reason="SCHED_BATCH is Linux's")
_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275, "riscv64": 275}


def in_a_thread() -> dict[str, int]:
    """Return what a thread that has stepped behind is told about itself."""
    seen: dict[str, int] = {}

    def work() -> None:
        seen["behind"] = step_behind()
        seen["policy"] = os.sched_getscheduler(0)
        seen["nice"] = os.getpriority(os.PRIO_PROCESS, 0)
        told = background._Attributes()
        number = _SCHED_GETATTR.get(platform.machine(), -1)
        size = ctypes.sizeof(told)
        if ctypes.CDLL(None).syscall(number, 0, ctypes.byref(told), size, 0) == 0:
            seen["slice"] = told.runtime
        seen["again"] = step_behind()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return seen


@linux
def test_a_thread_steps_behind_and_keeps_its_share() -> None:
    seen = in_a_thread()
    assert (seen["behind"], seen["policy"]) == (True, os.SCHED_BATCH)
    assert seen["nice"] == os.getpriority(os.PRIO_PROCESS, os.getpid())
    assert os.sched_getscheduler(0) == os.SCHED_OTHER  # this one does not
    assert seen["again"] is False  # what somebody chose is left alone


@linux
def test_it_takes_long_slices_where_the_kernel_knows_of_them() -> None:
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    if release < (6, 12) or platform.machine() not in _SCHED_GETATTR:
        pytest.skip("slices can be asked for since Linux 6.12")
    assert in_a_thread()["slice"] == SLICE_NS


def test_where_it_is_forbidden_all_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    assert not step_behind()
