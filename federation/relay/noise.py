"""What is logged of requests that are no HTTP: a count now and then, never their bytes.

Input: the records of aiohttp's server, which would log each malformed request with a traceback and
the offending line: a flood for free, and a way for a credential into the log. Output: one warning
in ten seconds at most. Whatever else the server has to say passes as it is.
"""

import logging

from aiohttp.http_exceptions import HttpProcessingError

log = logging.getLogger("federation.relay.http")
_QUIET_S = 10.0


class Malformed(logging.Filter):
    """Counts the malformed requests, and lets a sentence pass instead of them."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0  # since the start
        self._told = 0
        self._told_at_s = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged; the first after a while becomes a summary."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        self.total += 1
        if record.created - self._told_at_s < _QUIET_S:
            return False
        new, self._told = self.total - self._told, self.total
        self._told_at_s = record.created
        record.msg, record.args = "%d malformed requests were refused", (new,)
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


class MalformedCount:
    """The same for a server of ours."""

    def __init__(self) -> None:
        self.total = 0
        self._told = 0
        self._told_at_s = float("-inf")

    def note(self, now_s: float) -> None:
        """Count one malformed request; `now_s` is of any clock that does not go back."""
        self.total += 1
        if now_s - self._told_at_s >= _QUIET_S:
            new, self._told, self._told_at_s = self.total - self._told, self.total, now_s
            log.warning("%d malformed requests were refused", new)


def server_log() -> logging.Logger:
    """Return the log for a server of the request path: counts of its own, one name for all."""
    log = logging.Logger("federation.relay.http")  # noqa: LOG001  # each server counts its own
    log.parent = logging.getLogger("federation.relay")
    log.addFilter(Malformed())
    return log
