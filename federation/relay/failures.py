"""How a request to an upstream can fail, and how long each phase of it may take.

Input: what happened on a connection. Output: one of four ForwardErrors, which tell how far it got:
a caller that wants another try reads `may_have_run` and `answer_began` and decides.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_ALERT = re.compile(
    r"\b(?:SSLV3|TLSV1|TLSV13)_ALERT_(\w*(?:CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)\w*)"
)

# Takes what `getpeercert` told of a connection; returns why it may not be used, "" if it may.
Vet = Callable[[Mapping[str, Any]], str]


@dataclass(slots=True, kw_only=True)  # not frozen: one is made for each attempt
class Deadlines:
    """How long each phase may take, in seconds.

    `first_byte_s` runs from the start of the request, its body included, to the answer's head.
    """

    connect_s: float = 1.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0


class Phase(StrEnum):
    """Where the time ran out."""

    CONNECT = "connect"
    FIRST_BYTE = "first-byte"
    IDLE = "idle"


class ForwardError(Exception):
    """The upstream did not give a whole answer; the argument says why, in words."""

    may_have_run = True  # whether the far end may have executed the request
    answer_began = False  # whether a byte of an answer was seen


class ConnectFailed(ForwardError):
    """No connection: nothing was executed."""

    may_have_run = False


class Refused(ConnectFailed):
    """No connection that may be used, or none in time; nothing was sent."""


class SentNoAnswer(ForwardError):
    """The connection broke after sending began, before an answer."""


class BrokenMidway(ForwardError):
    """The answer broke off before its end."""

    answer_began = True


class TimedOut(ForwardError):
    """A phase took too long; `phase` tells which."""

    def __init__(self, phase: Phase, seconds: float) -> None:
        super().__init__(f"no {_AWAITED[phase]} within {seconds:g} s")
        self.phase = phase
        self.may_have_run = phase is not Phase.CONNECT
        self.answer_began = phase is Phase.IDLE


_AWAITED = {
    Phase.CONNECT: "connection",
    Phase.FIRST_BYTE: "answer",
    Phase.IDLE: "further byte of the answer",
}


def no_connection(error: OSError, address: str) -> ConnectFailed:
    """Return in one line why there is no connection to HOST:PORT."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message or str(error)
        return ConnectFailed(f"its certificate is not accepted: {why.rstrip('.')}")
    if isinstance(error, ssl.SSLError):
        why = _plain(error.reason or str(error))
        return ConnectFailed(f"no secure connection to {address}: {why}")
    return ConnectFailed(f"cannot connect to {address}")


def broke_off(error: BaseException | None) -> str:
    """Return in one line how a connection ended."""
    if error is None:
        return "it disconnected"
    text = str(error) or type(error).__name__
    return text.splitlines()[0][:200]


def refused_by_peer(error: BaseException | None) -> str:
    """Return why the peer refused our certificate, "" if that is not what happened.

    In TLS 1.3 a client learns it after its own handshake is done and the request is sent; but the
    server's handshake has failed, so that nothing of the request was read.
    """
    found = _ALERT.search(str(error)) if isinstance(error, OSError) else None
    return f"it refused our certificate: {_plain(found[1])}" if found else ""


def _plain(reason: str) -> str:
    return reason.lower().replace("_", " ")
