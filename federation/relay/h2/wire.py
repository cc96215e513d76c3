"""HTTP/2 frames as bytes: the numbers of RFC 9113, and how a frame is written.

Input: kinds, flags, stream ids, payloads. Output: bytes. Also the two refusals that reading frames
can end in: of a whole connection, and of one stream.
"""

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME = 16_384
MAX_WINDOW = 0x7FFFFFFF
MAX_STREAM = 0x7FFFFFFF

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

END_STREAM, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x4, 0x8, 0x20
ACK = 0x1

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

_HEAD = struct.Struct(">IBI")  # length and kind share the first four bytes
_U32 = struct.Struct(">I")
_TWO = struct.Struct(">II")

pack_head = _HEAD.pack
read_head = _HEAD.unpack_from
pack_u32 = _U32.pack
read_u32 = _U32.unpack_from


class Code(IntEnum):
    """Why a stream or a connection ends (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12


class Broken(Exception):
    """The far end broke the rules of the connection, which has to end: GOAWAY with `code`."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class Malformed(Exception):
    """One request is none (RFC 9113, section 8.1.1): its stream alone ends."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    return pack_head(len(payload) << 8 | kind, flags, stream) + payload


def settings(pairs: tuple[tuple[int, int], ...]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", k, v) for k, v in pairs))


def window_update(stream: int, size: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection."""
    return pack_head(4 << 8 | WINDOW_UPDATE, 0, stream) + pack_u32(size)


def reset(stream: int, code: int) -> bytes:
    """Return a RST_STREAM frame."""
    return pack_head(4 << 8 | RST_STREAM, 0, stream) + pack_u32(code)


def goaway(last: int, code: int, why: str = "") -> bytes:
    """Return a GOAWAY frame; `last` is the last stream that was or will be worked on."""
    return frame(GOAWAY, 0, 0, _TWO.pack(last, code) + why.encode("ascii", "replace"))


def header_frames(stream: int, block: bytes, max_frame: int, *, last: bool) -> list[bytes]:
    """Return HEADERS, with as many CONTINUATIONs as the far end's frames are short."""
    flags, size = END_STREAM if last else 0, len(block)
    if size <= max_frame:
        return [pack_head(size << 8 | HEADERS, flags | END_HEADERS, stream), block]
    pieces = [block[i : i + max_frame] for i in range(0, size, max_frame)]
    frames = [frame(HEADERS, flags, stream, pieces[0])]
    frames += [frame(CONTINUATION, 0, stream, piece) for piece in pieces[1:-1]]
    frames.append(frame(CONTINUATION, END_HEADERS, stream, pieces[-1]))
    return frames
