"""`--wait`: ask for an object until it is as wished, or time is up.

Input: an object's document, read again and again. Output: the document that fits, or WaitNotMet
with the last reason in words. A control plane that is away for a moment is waited for, too.
"""

import sys
import time
from collections.abc import Callable

from federation.cli.client import ApiClient
from federation.cli.documents import Json, title
from federation.cli.exits import WaitNotMet
from federation.cli.output import clean, note
from federation.contract.errors import DeadlineExceeded, Unavailable
from federation.contract.resources import Kind
from federation.runtime.clock import SystemClock

_EVERY_S = 0.3


def wait_for(
    client: ApiClient, kind: Kind, name: str, missing: Callable[[Json], str], *, timeout_s: float
) -> Json:
    """Return the object's document as soon as `missing` finds nothing missing in it.

    `missing` answers in words what is; raises WaitNotMet after `timeout_s` seconds, and NotFound
    when the object is deleted meanwhile. On a terminal, stderr tells each new reason.
    """
    clock = SystemClock()
    until_s, told = clock.monotonic_s() + timeout_s, ""
    while True:
        try:
            document = client.get("api", "v1", kind.plural, name)
            reason = missing(document)
            if not reason:
                return document
        except (Unavailable, DeadlineExceeded) as error:
            reason = error.message
        if reason != told and sys.stderr.isatty():
            note(f"waiting: {clean(reason)}")
        told = reason
        if clock.monotonic_s() >= until_s:
            raise WaitNotMet(
                f"{title(kind, name)} is not ready after {timeout_s:g} s: {clean(reason)}.",
                hint=f"See `fed describe {title(kind, name)}`.",
            )
        time.sleep(_EVERY_S)
