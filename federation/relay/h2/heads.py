"""What a switch reads in the headers of gRPC calls and answers, and what of them goes on.

Input: header blocks. Output: a RequestHead or an AnswerHead: what was looked for, and a block of
the fields that may pass, as the bytes they were. Equal blocks are read once. What is remembered of
a block is only what it says, never whether a key in it is good.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from federation.relay.h2.blocks import Huffman, literal, next_end, read_field, skip_updates, walk
from federation.relay.h2.wire import Broken, Code, Malformed

MAX_LIST_BYTES = 16 * 1024  # as grpcio and Triton have it; counted as RFC 9113, 6.5.2 does
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"host")
)
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT = re.compile(rb"[0-9]{1,8}[HMSmun]")
_NAME = re.compile(rb":?[!#$%&'*+.^_`|~0-9a-z-]+")
_FORBIDDEN_BYTES = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LONGEST_REMEMBERED = 1024
_MOST_REMEMBERED = 4096
_LONG = 0x7F  # from here on a length has more bytes
_SHORT_CUT = 18  # bytes: a grpc-timeout of 3, of which there are few, too
_SHORT_TAIL = 3  # bytes; there are few of these, and they come again


class TooLarge(Malformed):
    """A proper request with more metadata than is taken."""


@dataclass(slots=True, eq=False)  # not frozen: that would cost a microsecond
class RequestHead:
    """One call's headers. `block` may go on; `noted` holds the fields that were looked for; heads
    with the same `kind` say the same, their `apart` fields and timeouts aside (0 = unknown)."""

    path: bytes
    block: bytes
    timeout_s: float | None = None
    encoding: bytes = b"identity"
    noted: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    kind: int = 0
    size: int = 0  # as RFC 9113, 6.5.2 counts it, as it came
    seams: Collection[int] = ()  # where in the block as it came regular fields begin, and it ends
    names: Collection[bytes] = ()  # of its regular fields

    def __repr__(self) -> str:  # `noted` may hold a key
        return f"RequestHead({self.path.decode('ascii', 'replace')}, {len(self.block)} bytes)"

    def one(self, name: bytes) -> bytes:
        """Return the only value of a field that was looked for, b"" if there is none or several."""
        values = self.noted.get(name, ())
        return values[0] if len(values) == 1 else b""


class _Known(NamedTuple):
    """What one representation says, whatever stands around it."""

    name: bytes
    value: bytes
    pseudo: bool
    passes: bool
    noted: bool


_Cut = tuple[int, int, bytes, bytes]  # where, how long, and the field's name and value


class RequestReader:
    """Reads the heads of requests. Only fields in `passes`, or whose name begins with one of
    `prefixes`, go on; those in `notes` are noted, whether they go on or not, and those in `apart`
    make no other kind of head."""

    def __init__(
        self,
        *,
        passes: Collection[bytes],
        notes: Collection[bytes],
        prefixes: tuple[bytes, ...],
        apart: Collection[bytes] = (),
    ) -> None:
        self._passes = frozenset(passes) | _PSEUDO
        self._notes = frozenset(notes)
        self._prefixes = prefixes
        self._huffman = Huffman()
        self._fields: dict[bytes, _Known] = {}
        self._heads: dict[bytes, RequestHead] = {}
        self._apart = frozenset((*apart, b"grpc-timeout"))
        self._kinds: dict[object, int] = {}  # what heads say, as a number that is never used again
        self._last_kind = 0
        self._differing = tuple(
            (name, b"\0" + bytes((len(name),)) + name) for name in sorted(self._apart)
        )

    def __repr__(self) -> str:
        return f"RequestReader({len(self._heads)} heads, {len(self._fields)} fields)"

    def read(self, block: bytes) -> RequestHead:
        """Return what a block says; raises Broken, Malformed or TooLarge."""
        head = self._heads.get(block)
        if head is None:
            head = self._alike(block)
        if head is None:
            head = self._read(block)
            self._remember(block, head)
        return head

    def _remember(self, block: bytes, head: RequestHead) -> None:
        if len(block) <= _LONGEST_REMEMBERED:
            if len(self._heads) >= _MOST_REMEMBERED:
                self._heads.clear()
            self._heads[block] = head

    def _alike(self, block: bytes) -> RequestHead | None:
        """Read a block that is another one with fields put in whose values always differ, as plain
        literals; None if it is not, or has to be read in full.

        What looks like such a field may be a part of another one's value. But where each was cut
        out at a seam of what is left, the block says what is left, and these fields.
        """
        core, cuts = block, []
        for name, begins in self._differing:
            at = core.find(begins)
            if at < 0:
                continue
            size_at = at + len(begins)
            end = size_at + 1 + core[size_at] if size_at < len(core) else 0
            if not size_at < end <= len(core) or core[size_at] >= _LONG:
                return None
            cuts.append((at, end - at, name, core[size_at + 1 : end]))
            core = core[:at] + core[end:]
        head = self._core(core) if cuts else None
        if head is None or not all(_at_seam(i, cuts, head.seams) for i in range(len(cuts))):
            return None
        head = self._with(head, cuts)
        if head is not None and len(block) - len(core) <= _SHORT_CUT:
            self._remember(block, head)
        return head

    def _core(self, core: bytes) -> RequestHead | None:
        """Read what is left of a block; None if it is not sound, for then the block may be."""
        head = self._heads.get(core)
        if head is None:
            try:
                head = self._read(core)
            except (Broken, Malformed):
                return None
            self._remember(core, head)
        return head

    def _with(self, head: RequestHead, cuts: list[_Cut]) -> RequestHead | None:
        """Return what a head says with some fields more; None if it has to be read in full."""
        block, noted, timeout_s, size = head.block, head.noted, head.timeout_s, head.size
        for _, _, name, value in cuts:
            size += len(name) + len(value) + 32
            if name in head.names or size > MAX_LIST_BYTES or _FORBIDDEN_BYTES.search(value):
                return None
            if name in self._passes or name.startswith(self._prefixes):
                block += literal(name, value)
            if name == b"grpc-timeout":
                if not _TIMEOUT.fullmatch(value):
                    return None
                timeout_s = int(value[:-1]) * _UNITS[value[-1:]]
            if name in self._notes or name in _ALWAYS_NOTED:
                noted = {**noted, name: (value,)}
        return RequestHead(head.path, block, timeout_s, head.encoding, noted, head.kind)

    def _read(self, block: bytes) -> RequestHead:
        pseudo: dict[bytes, bytes] = {}
        noted: dict[bytes, list[bytes]] = {}
        passed: list[bytes] = []
        seams: list[int] = []
        names: set[bytes] = set()
        size, wrong = 0, ""
        try:
            at = skip_updates(block)
            while at < len(block):
                end = next_end(block, at)
                said, begun, at = block[at:end], at, end
                known = self._fields.get(said) or self._know(said)
                size += len(known.name) + len(known.value) + 32
                if known.pseudo:
                    wrong = wrong or _misplaced(known, pseudo, regular=bool(seams))
                    pseudo[known.name] = known.value
                else:
                    seams.append(begun)
                    names.add(known.name)
                if known.passes:
                    passed.append(said)
                if known.noted:
                    noted.setdefault(known.name, []).append(known.value)
        except IndexError:
            raise Broken(Code.COMPRESSION_ERROR, "the header block ends early") from None
        if size > MAX_LIST_BYTES:
            raise TooLarge("the request's headers are too large")
        if wrong:
            raise Malformed(wrong)
        head = _head(pseudo, b"".join(passed), noted)
        head.kind, head.size = self._kind(head), size
        head.seams, head.names = frozenset((*seams, len(block))), frozenset(names)
        return head

    def _kind(self, head: RequestHead) -> int:
        apart = self._apart
        said = head.path, *[pair for pair in head.noted.items() if pair[0] not in apart]
        kind = self._kinds.get(said)
        if kind is None:
            if len(self._kinds) >= _MOST_REMEMBERED:
                self._kinds.clear()
            kind = self._kinds[said] = self._last_kind = self._last_kind + 1
        return kind

    def _know(self, said: bytes) -> _Known:
        """Read one representation; raises Broken, or Malformed for what no request may say."""
        name, value, _, _ = read_field(said, 0, len(said), self._huffman)
        if not _NAME.fullmatch(name) or _FORBIDDEN_BYTES.search(value):
            raise Malformed("a header has bytes that none may have")
        if name in _CONNECTION or (name == b"te" and value != b"trailers"):
            raise Malformed("a header concerns the connection")
        passes = name in self._passes or name.startswith(self._prefixes)
        noted = name in self._notes or name in _ALWAYS_NOTED
        known = _Known(name, value, name[0] == 0x3A, passes, noted)
        if len(said) <= _LONGEST_REMEMBERED // 4:
            if len(self._fields) >= 2 * _MOST_REMEMBERED:
                self._fields.clear()
            self._fields[said] = known
        return known


_ALWAYS_NOTED = frozenset((b"content-type", b"grpc-timeout", b"grpc-encoding"))


def _at_seam(place: int, cuts: list[_Cut], seams: Collection[int]) -> bool:
    """Whether a cut was made at a seam of what was left after it and all others."""
    at = cuts[place][0]
    for later, size, _, _ in cuts[place + 1 :]:
        if at > later:
            at -= size
            if at < later:
                return False
    return at in seams


def _misplaced(known: _Known, pseudo: dict[bytes, bytes], *, regular: bool) -> str:
    if known.name not in _PSEUDO:
        return "a pseudo-header is unknown"
    if regular:
        return "a pseudo-header stands after others"
    return "a pseudo-header stands twice" if known.name in pseudo else ""


def _head(pseudo: dict[bytes, bytes], block: bytes, noted: dict[bytes, list[bytes]]) -> RequestHead:
    kinds = noted.get(b"content-type", [])
    if pseudo.get(b":method") != b"POST" or not pseudo.get(b":path") or b":scheme" not in pseudo:
        raise Malformed("this is no gRPC call")
    if len(kinds) != 1 or not _is_grpc(kinds[0]):
        raise Malformed("the content type is not gRPC's")
    timeouts = noted.get(b"grpc-timeout", [])
    if len(timeouts) > 1 or (timeouts and not _TIMEOUT.fullmatch(timeouts[0])):
        raise Malformed("grpc-timeout is not understood")
    encodings = noted.get(b"grpc-encoding", [])
    if len(encodings) > 1:
        raise Malformed("grpc-encoding stands twice")
    return RequestHead(
        path=pseudo[b":path"],
        block=block,
        timeout_s=int(timeouts[0][:-1]) * _UNITS[timeouts[0][-1:]] if timeouts else None,
        encoding=encodings[0] if encodings else b"identity",
        noted={name: tuple(values) for name, values in noted.items()},
    )


def _is_grpc(kind: bytes) -> bool:
    return kind == b"application/grpc" or kind.startswith(
        (b"application/grpc+", b"application/grpc;")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead:
    """A header block of an answer: its head or its trailers. `block` may go on."""

    block: bytes
    http_status: bytes = b""
    grpc_status: bytes = b""
    message: bytes = b""
    noted: dict[bytes, bytes] = field(default_factory=dict)


class AnswerReader:
    """Reads header blocks of answers. Fields in `cut`, or whose name begins with one of
    `prefixes`, do not go on; those in `notes` are noted.

    A field named `tail` may differ with every answer: where it is the last one of a block, and a
    plain literal, the rest of the block is read once for all of them.
    """

    def __init__(
        self,
        *,
        cut: Collection[bytes],
        notes: Collection[bytes],
        prefixes: tuple[bytes, ...],
        tail: bytes = b"",
    ) -> None:
        self._tail = tail
        self._tail_begins = b"\0" + bytes((len(tail),)) + tail
        self._cut = frozenset(cut) | _CONNECTION
        self._notes = frozenset(notes)
        self._prefixes = prefixes
        self._huffman = Huffman()
        self._known: dict[bytes, AnswerHead] = {}

    def __repr__(self) -> str:
        return f"AnswerReader({len(self._known)} known)"

    def read(self, block: bytes) -> AnswerHead:
        """Return what a block says; raises Broken."""
        found = self._known.get(block)
        if found is not None:
            return found
        if self._tail and (at := block.rfind(self._tail_begins)) > 0:
            found = self._before_tail(block, at)
        if found is None:
            found = self._read(block)
        elif len(found.noted[self._tail]) > _SHORT_TAIL:
            return found  # the next one is another
        self._remember(block, found)
        return found

    def _before_tail(self, block: bytes, at: int) -> AnswerHead | None:
        """Read a block that ends in the field that always differs; None if it does not."""
        size_at = at + len(self._tail_begins)
        if size_at >= len(block) or not block[size_at] < _LONG:
            return None
        if size_at + 1 + block[size_at] != len(block):
            return None
        core = block[:at]
        head = self._known.get(core)
        if head is None:
            try:
                head = self._read(core)
            except Broken:
                return None  # the whole block may be sound all the same
            self._remember(core, head)
        return AnswerHead(
            block=head.block,
            http_status=head.http_status,
            grpc_status=head.grpc_status,
            message=head.message,
            noted={**head.noted, self._tail: block[size_at + 1 :]},
        )

    def _remember(self, block: bytes, head: AnswerHead) -> None:
        if len(block) <= _LONGEST_REMEMBERED // 2 and not head.message:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[block] = head

    def _read(self, block: bytes) -> AnswerHead:
        passed, noted, said = [], {}, {b":status": b"", b"grpc-status": b"", b"grpc-message": b""}
        for name, value, begin, end in walk(block, self._huffman):
            if name in said:
                said[name] = value
            if name in self._notes:
                noted[name] = value
            if name not in self._cut and not name.startswith(self._prefixes):
                passed.append(block[begin:end])
        return AnswerHead(
            block=b"".join(passed),
            http_status=said[b":status"],
            grpc_status=said[b"grpc-status"],
            message=said[b"grpc-message"],
            noted=noted,
        )


CONTENT_TYPE = literal(b"content-type", b"application/grpc")
ANSWER = b"\x88" + CONTENT_TYPE  # :status 200
