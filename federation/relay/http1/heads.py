"""Heads of HTTP/1.1 messages, read strictly and once; heads written.

Input: the bytes up to and including the empty line. Output: a RequestHead or ResponseHead, or
BadMessage. What two readers could understand in two ways is refused, not repaired: bare line ends,
folded lines, space around names, two lengths, a length and a coding, codings other than `chunked`,
control characters (RFC 9112, sections 2.2, 3, 5, 6; RFC 9110, section 5.5).
"""

import re
from collections.abc import Iterable

from multidict import CIMultiDict

MAX_HEAD_BYTES = 64 * 1024
MAX_TARGET_BYTES = 4096
MAX_FIELD_BYTES = 8190
MAX_FIELDS = 100

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_FIELDS = rb"((?:%s{1,256}+:[\t -~\x80-\xff]{0,%d}+\r\n)*+)\r\n" % (_TOKEN, MAX_FIELD_BYTES)
_REQUEST = re.compile(
    rb"([A-Z][A-Z-]{0,19}+) ([!-~]{1,%d}+) HTTP/1\.([01])\r\n%s" % (MAX_TARGET_BYTES, _FIELDS)
).fullmatch
_RESPONSE = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t -~\x80-\xff]{0,512}+)?\r\n%s" % _FIELDS
).fullmatch
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]").search
_LENGTH = re.compile(r"[0-9]{1,15}").fullmatch
_NO_BODY = frozenset({204, 304})
UNTIL_CLOSE = -1  # a length: the message ends with the connection


class BadMessage(Exception):
    """Bytes that are no message, or one that cannot be trusted; the argument says why."""


class RequestHead:
    """The head of a request; not to be changed: the next request may have the very same.

    `length` counts the bytes of its body unless it is `chunked`; `persistent` = the client wants to
    keep the connection."""

    __slots__ = (
        *("chunked", "expects", "headers", "known", "length", "method", "minor", "passed"),
        *("persistent", "sound", "target"),
    )

    def __init__(self, method: str, target: str, minor: int, headers: CIMultiDict[str]) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.headers = headers
        self.chunked = False
        self.length = 0
        self.expects = False  # `100 Continue` before it sends the body
        self.persistent = minor == 1
        self.passed: tuple[bytes, str] | None = None  # what of it goes on, for who sends it on
        self.sound = False  # whether its target was checked
        self.known: object = None  # what a handler found out of it, for the next one like it

    def __repr__(self) -> str:
        return f"RequestHead({self.method} {self.target[:80]})"


class ResponseHead:
    """The head of a response; not to be changed, since shared as well.

    `length` is UNTIL_CLOSE where only the connection's end tells it."""

    __slots__ = ("chunked", "headers", "length", "passed", "persistent", "status")

    def __init__(self, status: int, headers: CIMultiDict[str]) -> None:
        self.status = status
        self.headers = headers
        self.chunked = False
        self.length = UNTIL_CLOSE
        self.persistent = True
        self.passed: CIMultiDict[str] | None = None

    def __repr__(self) -> str:
        return f"ResponseHead({self.status})"


def check_beginning(data: bytes) -> None:
    """Refuse a head of which only a part has come, as soon as no end could make it good."""
    if len(data) > MAX_HEAD_BYTES:
        raise BadMessage("its head is too large")
    if _BARE(data):
        raise BadMessage("its head has a bare line end or a control character")


def parse_request(data: bytes) -> RequestHead:
    """Return the head of a request; raises BadMessage."""
    found = _REQUEST(data)
    if found is None:
        raise BadMessage("its head is not valid HTTP/1.1")
    method, target, minor, fields = found.groups()
    headers = _headers(fields)
    head = RequestHead(method.decode(), target.decode(), 1 if minor == b"1" else 0, headers)
    hosts = len(headers.getall("host", ()))
    if hosts > 1 or (not hosts and head.minor):
        raise BadMessage("it must have one Host header")
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        _check_coding(headers, coding)
        if length is not None or not head.minor:
            raise BadMessage("it has a Transfer-Encoding beside a Content-Length, or on HTTP/1.0")
        head.chunked = True
    elif length is not None:
        head.length = _length(headers, length)
    if method in (b"GET", b"HEAD") and (head.chunked or head.length):
        raise BadMessage(f"a {head.method} request has no body")
    _read_wishes(head)
    return head


def _read_wishes(head: RequestHead) -> None:
    """Note what the client wants of the connection."""
    headers = head.headers
    if "connection" in headers:
        head.persistent = _persists(headers, minor=head.minor)
    if "expect" in headers:
        head.expects = bool(head.minor) and headers["expect"].lower() == "100-continue"
    if "upgrade" in headers:  # never done; what follows may be meant in the other protocol
        head.persistent = False
        if "websocket" in headers["upgrade"].lower():
            raise BadMessage("WebSocket is not offered here")


def parse_response(data: bytes, *, to_head: bool = False) -> ResponseHead:
    """Return the head of a response, `to_head` of one to a HEAD request; raises BadMessage."""
    found = _RESPONSE(data)
    if found is None:
        raise BadMessage("its head is not valid HTTP/1.1")
    minor, status, fields = found.groups()
    headers = _headers(fields)
    head = ResponseHead(int(status), headers)
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        _check_coding(headers, coding)
        if length is not None or minor == b"0":
            raise BadMessage("it has a Transfer-Encoding beside a Content-Length, or on HTTP/1.0")
    if to_head or head.status in _NO_BODY or head.status < 200:
        head.length = 0
    elif coding is not None:
        head.chunked = True
    elif length is not None:
        head.length = _length(headers, length)
    if minor == b"0" or "connection" in headers:
        head.persistent = _persists(headers, minor=0 if minor == b"0" else 1)
    return head


def _headers(fields: bytes) -> CIMultiDict[str]:
    lines = fields.decode("utf-8", "surrogateescape").split("\r\n")
    lines.pop()
    if len(lines) > MAX_FIELDS:
        raise BadMessage(f"it has more than {MAX_FIELDS} headers")
    return CIMultiDict(
        [(name, value.strip(" \t")) for name, _, value in [line.partition(":") for line in lines]]
    )


def _check_coding(headers: CIMultiDict[str], coding: str) -> None:
    if coding.lower() != "chunked" or len(headers.getall("transfer-encoding")) > 1:
        raise BadMessage("its Transfer-Encoding is not understood; only 'chunked' is")


def _length(headers: CIMultiDict[str], text: str) -> int:
    if not _LENGTH(text) or len(headers.getall("content-length")) > 1:
        raise BadMessage("its Content-Length is not one plain number")
    return int(text)


def _persists(headers: CIMultiDict[str], *, minor: int) -> bool:
    options = {
        part.strip().lower()
        for value in headers.getall("connection", ())
        for part in value.split(",")
    }
    return "close" not in options and (minor == 1 or "keep-alive" in options)


def write_head(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return a head; `first` is its first line. Raises BadMessage rather than let a value begin a
    line of its own."""
    lines = [first]
    lines += [f"{name}: {value}" for name, value in headers]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise BadMessage("a header to be sent holds a line end")
    return (text + "\r\n\r\n").encode("utf-8", "surrogateescape")
