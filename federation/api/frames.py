"""Chunks on their way to the store: a body of frames, taken apart as it comes.

Input: the bytes of a body in any pieces. Output: heads with their stored bytes, one whole chunk at
a time. Not more than one frame is held, whatever the heads claim.
"""

from collections.abc import AsyncIterable, AsyncIterator

from federation.contract.errors import Invalid, TooLarge
from federation.contract.locations import (
    BASE_BYTES,
    FRAME_BYTES,
    RAW,
    WITH_BASE,
    ZSTD,
    Frame,
    unpack_frame,
)
from federation.contract.manifest import MAX_CHUNK_BYTES

CODES = frozenset((RAW, ZSTD, 2, 4, WITH_BASE | 2, WITH_BASE | 4))


async def frames_of(body: AsyncIterable[bytes]) -> AsyncIterator[tuple[Frame, bytes]]:
    """Yield each frame with its stored bytes.

    Raises Invalid for a head that makes no sense and for a body that ends inside of a frame,
    TooLarge for a chunk that is too long, and whatever the body raises.
    """
    held = bytearray()
    wanted, frame = FRAME_BYTES, None
    async for block in body:
        held += block
        while len(held) >= wanted:
            if frame is None:
                frame = checked(unpack_frame(bytes(held[:FRAME_BYTES])))
                wanted = FRAME_BYTES + _tail(frame)
                continue
            base_end = wanted - frame.stored
            base = bytes(held[FRAME_BYTES:base_end])
            stored = bytes(memoryview(held)[base_end:wanted])
            del held[:wanted]
            yield _with_base(frame, base), stored
            wanted, frame = FRAME_BYTES, None
    if held:
        raise Invalid("the body ends in the middle of a chunk.", hint="Send the rest again.")


def checked(frame: Frame) -> Frame:
    """Return a head whose numbers fit together; raises Invalid or TooLarge."""
    if frame.length > MAX_CHUNK_BYTES or frame.stored > MAX_CHUNK_BYTES:
        longest = max(frame.length, frame.stored)
        raise TooLarge(
            f"a chunk of {longest} bytes was announced.",
            hint=f"A chunk has at most {MAX_CHUNK_BYTES} bytes.",
        )
    if frame.code not in CODES:
        raise Invalid(
            f"a chunk's encoding {frame.code} is unknown.", hint="Push with this version."
        )
    fits = frame.stored == frame.length if frame.code == RAW else frame.stored <= frame.length
    if not (frame.length and frame.stored and fits):
        raise Invalid(
            f"a chunk of {frame.length} bytes cannot be stored as {frame.stored} bytes in "
            f"encoding {frame.code}."
        )
    return frame


def _tail(frame: Frame) -> int:
    return frame.stored + (BASE_BYTES if frame.code & WITH_BASE else 0)


def _with_base(frame: Frame, base: bytes) -> Frame:
    return Frame(
        digest=frame.digest, length=frame.length, stored=frame.stored, code=frame.code, base=base
    )
