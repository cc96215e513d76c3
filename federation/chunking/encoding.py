"""How a chunk looks in a pack and on its way: as it is, or smaller.

Input: the bytes of a chunk and a code of `federation.contract.locations`. Output: the stored bytes,
and back. A decoder trusts nothing: what it gives has the length that the manifest says, or Invalid
is raised before more memory than that is taken. Digests are checked by the caller.

Weights look like noise but for their exponents. Put side by side (byte planes, as Blosc and ZipNN
make them), the bytes that hold those compress well; all others do not, whatever the effort, so zstd
runs at level 1. A full fine-tune changes each weight a little: the XOR with the old chunk at the
same place leaves few bits.
"""

import zstandard

from federation.contract.errors import Invalid
from federation.contract.locations import RAW, WITH_BASE, ZSTD
from federation.contract.manifest import MAX_CHUNK_BYTES

PAYS_AT = 0.9  # stored length / length
_LEVEL = 1
_SAMPLE_BYTES = 256 << 10  # two blocks of zstd, so that planes do not share one
_SAMPLE_PAYS_AT = 0.95
_BASE_PAYS_AT = 0.8  # of the length without a base: who lacks the base fetches that as well
_PLANES = {ZSTD: 1, 2: 2, 4: 4}


def encode(data: bytes, code: int, base: bytes = b"") -> bytes:
    """Return the stored bytes of a chunk; raises Invalid for an unknown code or an unfit base."""
    if code == RAW:
        return data
    planes = _planes_of(code)
    if code & WITH_BASE:
        data = _xor(data, base)
    if planes > 1:
        data = b"".join([data[plane::planes] for plane in range(planes)])
    return zstandard.ZstdCompressor(level=_LEVEL).compress(data)


def decode(stored: bytes, code: int, length: int, base: bytes = b"") -> bytes:
    """Return the `length` bytes of a chunk; raises Invalid if the stored bytes are not such a chunk
    in this code, or the base has another length."""
    if code == RAW:
        if len(stored) != length:
            raise Invalid(f"a stored chunk has {len(stored)} bytes instead of {length}.")
        return stored
    planes = _planes_of(code)
    data = _decompress(stored, length)
    if planes > 1:
        merged = bytearray(length)
        taken = 0
        for plane in range(planes):
            size = len(range(plane, length, planes))
            merged[plane::planes] = data[taken : taken + size]
            taken += size
        data = bytes(merged)
    return _xor(data, base) if code & WITH_BASE else data


def choose(data: bytes, width: int = 0, base: bytes = b"") -> int:
    """Return the code that a sample of the chunk recommends: RAW unless another one saves enough,
    one with the base only if that saves much more. `width` is that of its floating point numbers
    (2 or 4), or 0; a base must have the chunk's length."""
    code = width if width in _PLANES else ZSTD
    middle = max(0, len(data) - _SAMPLE_BYTES) // 2
    part = slice(middle, middle + _SAMPLE_BYTES)
    size = len(data[part])
    alone = min(len(encode(data[part], code)), size)
    if base and code != ZSTD:
        with_base = code | WITH_BASE
        if len(encode(data[part], with_base, base[part])) <= _BASE_PAYS_AT * alone:
            return with_base
    return code if alone <= _SAMPLE_PAYS_AT * size else RAW


def shrink(data: bytes, width: int = 0, base: bytes = b"") -> tuple[int, bytes]:
    """Return code and stored bytes of a chunk: encoded if it becomes ≤ PAYS_AT of its length."""
    code = choose(data, width, base)
    stored = encode(data, code, base)
    return (RAW, data) if len(stored) > PAYS_AT * len(data) else (code, stored)


def _planes_of(code: int) -> int:
    planes = _PLANES.get(code & ~WITH_BASE)
    if planes is None or code == ZSTD | WITH_BASE:
        raise Invalid(f"a chunk is stored in an unknown way, {code}.")
    return planes


def _decompress(stored: bytes, length: int) -> bytes:
    """Undo zstd. The length that the frame claims is what the library would take memory for."""
    if not 0 < length <= MAX_CHUNK_BYTES:
        raise Invalid(f"a chunk cannot have {length} bytes.")
    try:
        if zstandard.frame_content_size(stored) != length:
            raise Invalid(f"a stored chunk does not hold {length} bytes.")
        data = zstandard.ZstdDecompressor(max_window_size=2 * MAX_CHUNK_BYTES).decompress(
            stored, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise Invalid(f"a stored chunk is malformed: {error}.") from None
    if len(data) != length:
        raise Invalid(f"a stored chunk does not hold {length} bytes.")
    return data


def _xor(data: bytes, base: bytes) -> bytes:
    if len(base) != len(data):
        raise Invalid(f"a chunk of {len(data)} bytes has a base of {len(base)}.")
    both = int.from_bytes(data, "little") ^ int.from_bytes(base, "little")
    return both.to_bytes(len(data), "little")
