"""The head of a request as a router sends it to a gateway.

Input: the head that the client sent, the request's id, the model and version that were resolved.
Output: header lines: what is allowed of the client's (`relay.headers`), then our own, which
replace.
"""

from multidict import CIMultiDict

from federation.relay.headers import (
    MODEL_HEADER,
    REQUEST_ID_HEADER,
    VERSION_HEADER,
    lines,
    request_headers,
)
from federation.relay.http1.heads import RequestHead

TRACE_HEADER = "traceparent"
_OURS = (REQUEST_ID_HEADER, MODEL_HEADER, VERSION_HEADER)


def passed_fields(head: RequestHead) -> tuple[bytes, str]:
    """Return what goes on of a client's head apart from its id, and its trace, "" = none."""
    if head.passed is None:
        head.passed = _split(request_headers(head.headers))
    return head.passed


def plain_fields(head: RequestHead) -> tuple[bytes, str]:
    """Return the same for a request whose answer has to be readable here."""
    return _split(request_headers(head.headers, {"Accept-Encoding": "identity"}))


def _split(passed: CIMultiDict[str]) -> tuple[bytes, str]:
    for name in _OURS:
        passed.popall(name, None)
    traces = passed.popall(TRACE_HEADER, [])
    if len(traces) > 1:
        passed.extend([(TRACE_HEADER, trace) for trace in traces])
    return lines(passed), traces[0] if len(traces) == 1 else ""


def own_fields(request_id: str, trace: str) -> bytes:
    """Return the lines that differ from request to request; a trace that is not plain is left
    out."""
    traced = f"{TRACE_HEADER}: {trace}\r\n" if trace and trace.isascii() else ""
    return f"{traced}{REQUEST_ID_HEADER}: {request_id}\r\n".encode()


def resolved_fields(model: str, version: int) -> bytes:
    """Return the lines that tell a gateway what a body names that it would have to read."""
    return f"{MODEL_HEADER}: {model}\r\n{VERSION_HEADER}: {version}\r\n".encode()
