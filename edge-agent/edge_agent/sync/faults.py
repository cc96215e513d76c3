"""What a disk that refuses means to the agent.

Input: an OSError. Output: an error of ours. A full disk can be helped; one that answers with an
error once may be believed again, after what it held was thrown away; the second time it is failing.
"""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from federation.contract.errors import Exhausted, FederationError, Invalid, Unavailable

DISK_FULL = "disk-full"
DISK_ERROR = "disk-error"
DISK_FAILING = "DiskFailing"  # also the name of the cluster's condition
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DAMAGE = frozenset({errno.EIO, errno.EROFS, errno.EUCLEAN, errno.ENXIO, errno.EREMOTEIO})
_NAMES = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL})


class Faults:
    """Counts the faults of one disk. May be used from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def __repr__(self) -> str:
        return f"Faults({self.count})"

    @property
    def failing(self) -> bool:
        """Whether the disk should be replaced."""
        return self.count > 1

    def saw(self, error: OSError, doing: str) -> FederationError:
        """Return the error to raise: Exhausted, Unavailable, or Invalid for names that the file
        system does not take."""
        told = f"{doing}: {os.strerror(error.errno) if error.errno else error}."
        if error.errno in _FULL:
            return Exhausted(told, hint="Free disk space.", reason=DISK_FULL)
        if error.errno in _NAMES:
            return Invalid(told)
        if error.errno not in _DAMAGE:
            return Unavailable(told, reason=DISK_ERROR)
        with self._lock:
            self.count += 1
        if not self.failing:
            return Unavailable(told, reason=DISK_ERROR)
        hint = f"The disk failed {self.count} times: look at the kernel's log, and replace it."
        return Unavailable(told, hint=hint, reason=DISK_FAILING)

    @contextmanager
    def told(self, doing: str) -> Iterator[None]:
        """Turn an OSError inside into an error of ours."""
        try:
            yield
        except OSError as error:
            raise self.saw(error, doing) from None
