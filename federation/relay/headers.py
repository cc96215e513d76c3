"""Which headers pass, in both directions, and where a message ends.

Input: the headers of a parsed request or response. Output: new headers, written again from an
allow-list (requests) or with the unsafe ones cut (responses). Content-Length and Transfer-Encoding
are never copied: whoever sends a message decides its framing.
"""

from collections.abc import Iterable, Mapping

from multidict import CIMultiDict

from federation.contract.errors import Invalid

MODEL_HEADER = "x-fed-model"  # router to gateway: the model that an OpenAI body names
VERSION_HEADER = "x-fed-version"  # router to gateway: the version that it resolved to
LOAD_HEADER = "x-fed-load"  # gateway to router: requests in flight for that version
REFUSED_HEADER = "x-fed-refused"  # gateway to router: nothing was executed, try elsewhere
OUTCOME_HEADER = "x-fed-outcome"  # gateway to router: "unknown" = it may have been executed
REQUEST_ID_HEADER = "x-request-id"
INFERENCE_HEADER_LENGTH = "Inference-Header-Content-Length"

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)  # RFC 9110, sec. 7.6.1
_REQUEST_ALLOWED = frozenset(
    {
        "accept",
        "accept-encoding",
        "content-encoding",
        "content-type",
        INFERENCE_HEADER_LENGTH.lower(),
        "traceparent",
        "tracestate",
        REQUEST_ID_HEADER,
        "x-session-id",
    }
)
_RESPONSE_CUT = HOP_BY_HOP | {
    "alt-svc",
    "content-length",
    "date",
    "server",
    "set-cookie",
    "strict-transport-security",
}


def named_in_connection(headers: Mapping[str, str]) -> frozenset[str]:
    """Return the lower-case names that `Connection` declares to be for this hop only."""
    value = ",".join(v for k, v in headers.items() if k.lower() == "connection")
    return frozenset(part.strip().lower() for part in value.split(",") if part.strip())


def request_headers(
    headers: Mapping[str, str], extra: Mapping[str, str] | None = None
) -> CIMultiDict[str]:
    """Return what goes upstream: the allowed headers in plain ASCII, then `extra`, which replaces.

    Everything of ours (`x-fed-*`) and about the client (`x-forwarded-*`, cookies, credentials)
    that came in is gone: only `extra` can set it.
    """
    hop = named_in_connection(headers)
    passed: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lower = name.lower()
        if lower in _REQUEST_ALLOWED and lower not in hop and value.isascii():
            passed.add(name, value)
    passed.update(extra or {})
    return passed


def lines(headers: CIMultiDict[str]) -> bytes:
    """Return headers that were read strictly as they are written, line by line."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return text.encode("utf-8", "surrogateescape")


def response_headers(headers: Mapping[str, str], cut: Iterable[str] = ()) -> CIMultiDict[str]:
    """Return what goes back: all but framing, this hop's headers, `x-fed-*`, and those in `cut`."""
    gone = _RESPONSE_CUT | named_in_connection(headers) | {name.lower() for name in cut}
    passed: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lower = name.lower()
        if lower not in gone and not lower.startswith("x-fed-"):
            passed.add(name, value)
    return passed


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return the announced length of a body, or None if it is framed otherwise.

    Raises Invalid unless it is plain digits.
    """
    value = headers.get("Content-Length")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        raise Invalid("Content-Length is not a number.")
    return int(value)
