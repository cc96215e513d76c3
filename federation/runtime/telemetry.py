"""Logs and metrics, the same on all three roles.

Input: the standard library's logging, prometheus_client's registries. Output: JSON lines on stderr
when it is no terminal (keys ts, level, msg, component, then what the caller added with `extra`),
and the text page of /metrics. Secrets are cut out of every line.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# What a secret looks like: the group stays, the rest goes. None matches a quotation mark or a
# backslash, so that a line of JSON stays one; `\\*` is for JSON within JSON.
_SECRETS = tuple(
    re.compile(pattern)
    for pattern in (
        # a private key in PEM; a cut one, too; line breaks may be escaped
        r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)"
        r"(?:(?!-----END)(?:[A-Za-z0-9+/=\s:,.-]|\\+[nrt]))*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
        r"(fed_[a-z]+_[A-Za-z0-9.-]+_)[A-Za-z0-9_-]{8,}",  # our tokens and keys
        r"(\beyJ)[A-Za-z0-9_-]{4,4096}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)*",  # a JSON web token
        r"((?i:bearer) )[A-Za-z0-9._~+/=-]{8,}",
        r"((?i:basic) )(?=[a-z+/]*[A-Z0-9=])[A-Za-z0-9+/]{4,}={0,2}",
        # headers that hold a secret, but for the schemes above
        r"(\b(?i:(?:x-)?api-?key|(?:proxy-)?authorization|(?:set-)?cookie)\\*[\"']?\s*[:=]\s*\\*[\"']?)"
        r"(?!(?i:bearer|basic) )[^\s\"'\\,]{4,}",
        # members of JSON objects
        r"([\"'](?i:[a-z_-]*(?:token|api_?key|secret|password|pepper|proof|private_?key))\\*[\"']"
        r"\s*:\s*\\*[\"'])[^\"'\\]{4,}",
        # parameters of URLs and forms
        r"([?&](?i:[a-z_-]*(?:token|key|secret|password|signature|code|assertion))=)[^&\s\"'\\#]+",
        r"(\b(?i:[a-z_]*(?:token|secret|password|pepper|api_?key))=\\*[\"']?)[^&\s\"'\\#/,;)]{8,}",
        r"(\b[a-z][a-z0-9+.-]{0,20}://)[^/:\s\"'\\@]*:[^/\s\"'\\@]*(?=@)",  # user:password@
    )
)


def redact(text: str) -> str:
    """Return `text` with the secret part of all that looks like a secret replaced by '***'."""
    for pattern in _SECRETS:
        text = pattern.sub(r"\g<1>***", text)
    return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            "component": self._component,
            "logger": record.name,
        }
        line |= {k: v for k, v in vars(record).items() if k not in _STANDARD and k not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, default=str))


class TerminalFormatter(logging.Formatter):
    """A short line for people."""

    def __init__(self, component: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {component} %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line without secrets."""
        return redact(super().format(record))


def set_up_logging(component: str, *, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (stderr), as JSON unless it is a terminal."""
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    formatter = TerminalFormatter if target.isatty() else JsonFormatter
    handler.setFormatter(formatter(component))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
