"""What a failed attempt means: whose fault it is, in words.

Input: the head of an answer, or the error of an attempt. Output: Failed, from which `policy.retry`
decides whether to try again and `policy.signals` learns.
"""

import contextlib

from federation.relay.forward import ConnectFailed, ForwardError, Phase, TimedOut, Upstream
from federation.relay.headers import LOAD_HEADER, OUTCOME_HEADER, REFUSED_HEADER
from router.policy.retry import Failed
from router.policy.signals import Ending

_GATEWAY_FAILURES = frozenset({502, 504})
_OVERLOAD = frozenset({429, 503})  # whoever says so, and why: it has enough to do
_DRAIN_BYTES = 64 * 1024


async def of_answer(upstream: Upstream, cluster: str, *, last: bool = False) -> Failed | None:
    """Return why a head that arrived is no answer of the model, None if it is one.

    A gateway says what it refused, and when its engine failed under a request. A 502 or 504 without
    the load that gateways report on every reply comes from something before the gateway. Any 429 or
    503 means that it has enough to do; of the `last` attempt it is the answer all the same.
    """
    headers = upstream.headers
    if refused := headers.get(REFUSED_HEADER, "")[:40]:
        failed = Failed(cluster=cluster, ending=Ending.REFUSED, reason=refused, status=503)
    elif headers.get(OUTCOME_HEADER):
        reason = f"its engine failed under the request (status {upstream.status})"
        failed = Failed(cluster=cluster, ending=Ending.REFUSED, reason=reason, status=500)
    elif upstream.status in _OVERLOAD and not last:
        failed = Failed(cluster=cluster, ending=Ending.REFUSED, reason="saturated", status=503)
    elif upstream.status in _GATEWAY_FAILURES and LOAD_HEADER not in headers:
        reason = f"it answered with status {upstream.status}"
        failed = Failed(
            cluster=cluster, ending=Ending.BROKEN, reason=reason, status=upstream.status
        )
    else:
        return None
    with contextlib.suppress(ForwardError):
        await upstream.read(_DRAIN_BYTES)  # so that the connection can be used again
    return failed


def of_error(error: ForwardError, cluster: str, *, own_deadline: bool) -> Failed:
    """Return what an error means; missing a deadline of the client's own blames nobody."""
    match error:
        case ConnectFailed() | TimedOut(phase=Phase.CONNECT):
            ending = Ending.UNREACHABLE
        case TimedOut(phase=Phase.FIRST_BYTE) if own_deadline:
            ending = Ending.ABANDONED
        case _:
            ending = Ending.BROKEN
    late = isinstance(error, TimedOut) and error.phase is Phase.FIRST_BYTE
    status = 504 if late else 502
    return Failed(cluster=cluster, ending=ending, reason=str(error), status=status)
