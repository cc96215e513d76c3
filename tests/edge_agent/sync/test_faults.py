"""What an error of the disk becomes."""

import errno

import pytest

from edge_agent.sync.faults import DISK_ERROR, DISK_FAILING, DISK_FULL, Faults
from federation.contract.errors import Exhausted, Invalid, Unavailable


def test_the_second_damage_says_that_the_disk_is_failing() -> None:
    faults = Faults()
    for number, kind, reason in (
        (errno.ENOSPC, Exhausted, DISK_FULL),
        (errno.EDQUOT, Exhausted, DISK_FULL),
        (errno.ENAMETOOLONG, Invalid, "invalid"),
        (errno.EMFILE, Unavailable, DISK_ERROR),
        (errno.EIO, Unavailable, DISK_ERROR),
        (errno.EMFILE, Unavailable, DISK_ERROR),
        (errno.EIO, Unavailable, DISK_FAILING),
    ):
        error = faults.saw(OSError(number, "x"), "writing 'a'")
        assert (type(error), error.reason) == (kind, reason)
        assert "writing 'a': " in error.message
    assert faults.failing
    assert faults.count == 2


def test_an_error_inside_is_told() -> None:
    with pytest.raises(Unavailable, match="doing: Input/output error"), Faults().told("doing"):
        raise OSError(errno.EIO, "x")
    with pytest.raises(ValueError, match="x"), Faults().told("doing"):
        raise ValueError("x")
