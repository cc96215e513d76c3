"""The head of an HTTP/1.1 response to a ranged GET, read strictly.

Input: bytes up to the blank line. Output: a Head, or Invalid that says what is wrong with it. We
ask for identity encoding and one range, so nothing else is understood: no chunked bodies, no
compression, no redirects, no whole object in place of a range.
"""

import re
from dataclasses import dataclass

from federation.contract.errors import Invalid

MAX_HEAD_BYTES = 16 << 10
END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.([01]) ([2-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_NUMBER = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_ONCE = ("content-length", "content-range", "transfer-encoding", "content-encoding")


@dataclass(frozen=True, slots=True)
class Head:
    """`fields` by lower-case name; of a name that comes twice the last. `length` is the body's,
    None if the server did not say."""

    status: int
    length: int | None
    fields: dict[str, str]
    keep_alive: bool

    @property
    def retry_after_s(self) -> float:
        """How long the server asks to be left alone; 0 if it does not say in seconds."""
        value = self.fields.get("retry-after", "")
        return float(value) if re.fullmatch(r"[0-9]{1,6}", value) else 0.0


def request_head(authority: str, target: str, span: tuple[int, int] | None) -> bytes:
    """Return the bytes of a GET of `span` (first byte, number of bytes; None = everything)."""
    lines = [
        f"GET {target} HTTP/1.1",  # as it is: a signature may cover it; see sites.parse_url
        f"Host: {authority}",
        "Accept-Encoding: identity",
        "User-Agent: inference-federation",
    ]
    if span is not None:
        lines.append(f"Range: bytes={span[0]}-{span[0] + span[1] - 1}")
    return "\r\n".join((*lines, "", "")).encode("ascii")


def parse_head(data: bytes) -> Head:
    """Read a head without its blank line; raises Invalid."""
    status_line, *lines = data.split(b"\r\n")
    if (match := _STATUS.fullmatch(status_line)) is None:
        raise Invalid(f"its answer begins with {status_line[:40]!r}, which is not HTTP/1.1.")
    fields: dict[str, str] = {}
    for line in lines:
        if (field := _FIELD.fullmatch(line)) is None:
            raise Invalid(f"its answer has a malformed header: {line[:40]!r}.")
        name, value = field[1].decode().lower(), field[2].decode("latin-1")
        if name in _ONCE and name in fields:
            raise Invalid(f"its answer has two headers {name}.")
        fields[name] = value
    if "transfer-encoding" in fields:
        raise Invalid("its answer has a transfer encoding; ranges have a length.")
    if fields.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise Invalid(f"it encoded the bytes as {fields['content-encoding'][:40]!r}, unasked.")
    keep = match[1] == b"1" and fields.get("connection", "").lower() != "close"
    length = fields.get("content-length")
    if length is not None and not _NUMBER.fullmatch(length):
        raise Invalid(f"its answer has the length {length[:40]!r}.")
    return Head(int(match[2]), None if length is None else int(length), fields, keep)


def check_partial(head: Head, first: int, count: int) -> None:
    """Check that a 206 carries exactly the range that was asked for; raises Invalid."""
    if head.status == 200:
        raise Invalid("it answered with 200, the whole object: it ignores ranges.")
    if 300 <= head.status < 400:
        raise Invalid(f"it answered with {head.status}, a redirect, which is not followed.")
    if head.status != 206:
        raise Invalid(f"it answered with {head.status}.")
    if head.length != count:
        raise Invalid(f"its answer has {head.length} bytes; {count} were asked for.")
    given = head.fields.get("content-range", "")
    match = _RANGE.fullmatch(given)
    if match is None or (int(match[1]), int(match[2])) != (first, first + count - 1):
        raise Invalid(
            f"its answer is of the range {given[:60]!r}, not of bytes {first}-{first + count - 1}."
        )
    if match[3] != "*" and int(match[3]) < first + count:
        raise Invalid(f"its answer says {given[:60]!r}, a range beyond its own end.")
