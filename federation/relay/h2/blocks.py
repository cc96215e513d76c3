"""Header blocks without a dynamic table (RFC 7541 where both sides announced a table of size 0).

Input: header blocks. Output: the fields in them with the bytes that said them, and blocks made of
such bytes. Both sides of a switch are told HEADER_TABLE_SIZE = 0, so that a block means the same on
every connection and its bytes may cross. What refers to a dynamic table never passes `walk`: in the
next hop's table it would mean something else, or another client's header.
"""

from collections.abc import Iterable
from typing import NamedTuple

from hpack import Decoder, HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from federation.relay.h2.wire import Broken, Code

TABLE_0 = b"\x20"  # "my table has size 0": stands before the first block after each SETTINGS
_STATIC: tuple[tuple[bytes, bytes], ...] = ((b"", b""), *HeaderTable.STATIC_TABLE)
_LONGEST_SHIFT = 21  # integers up to about 2^28: far above any block
_REMEMBERED = 4096
_LONGEST_REMEMBERED = 128
_MOST_LISTED = 64 * 1024  # bytes of a decoded list, while a client may still use its table


class Field(NamedTuple):
    """One header field, and where in the block it is said."""

    name: bytes
    value: bytes
    begin: int
    end: int


class Huffman:
    """Decodes strings, and remembers the short ones."""

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}

    def __repr__(self) -> str:
        return f"Huffman({len(self._known)} known)"

    def decode(self, text: bytes) -> bytes:
        """Return what a string means; raises Broken."""
        found = self._known.get(text)
        if found is None:
            try:
                found = bytes(decode_huffman(text))
            except HPACKError:
                raise _bad("a Huffman code is none") from None
            if len(text) <= _LONGEST_REMEMBERED:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[text] = found
        return found


def _bad(why: str) -> Broken:
    return Broken(Code.COMPRESSION_ERROR, why)


def integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Return an integer and where it ends; raises Broken, or IndexError where the block ends."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        more = block[at]
        at += 1
        value += (more & 127) << shift
        if more < 128:
            return value, at
        shift += 7
        if shift > _LONGEST_SHIFT:
            raise _bad("an integer is too long")


def next_end(block: bytes, at: int) -> int:
    """Return where the representation ends that begins at `at`, without looking into it.

    Raises Broken, or IndexError where the block ends early.
    """
    first = block[at]
    if first & 0x80:
        return at + 1 if first != 0xFF else integer(block, at, 0x7F)[1]
    if first & 0xE0 == 0x20:
        raise _bad("a table size update is above 0 or not in front")
    mask = 0x3F if first & 0x40 else 0x0F
    if first & mask == mask:
        at = integer(block, at, mask)[1]
    elif first & mask:
        at += 1
    else:
        at = _string_end(block, at + 1)
    return _string_end(block, at)


def _string_end(block: bytes, at: int) -> int:
    size = block[at] & 0x7F
    at += 1
    if size == 0x7F:
        size, at = integer(block, at - 1, 0x7F)
    if at + size > len(block):
        raise _bad("a string runs past the block")
    return at + size


def skip_updates(block: bytes) -> int:
    """Return where the fields begin, after size updates to 0; raises Broken for others."""
    at = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:
        if block[at] != TABLE_0[0]:
            raise _bad("a table size update is above 0 or not in front")
        at += 1
    return at


def read_field(block: bytes, at: int, end: int, huffman: Huffman) -> Field:
    """Return the field whose representation lies between `at` and `end`; raises Broken."""
    begin, first = at, block[at]
    if first & 0x80:
        index, _ = integer(block, at, 0x7F)
        if not 0 < index < len(_STATIC):
            raise _bad(f"a reference to entry {index} of a table that is empty")
        return Field(*_STATIC[index], begin, end)
    index, at = integer(block, at, 0x3F if first & 0x40 else 0x0F)
    if index >= len(_STATIC):
        raise _bad(f"a reference to entry {index} of a table that is empty")
    if index:
        name = _STATIC[index][0]
    else:
        name, at = _string(block, at, huffman)
    value, _ = _string(block, at, huffman)
    return Field(name, value, begin, end)


def _string(block: bytes, at: int, huffman: Huffman) -> tuple[bytes, int]:
    coded = block[at] & 0x80
    size, at = integer(block, at, 0x7F)
    text = block[at : at + size]
    return (huffman.decode(text) if coded else text), at + size


def walk(block: bytes, huffman: Huffman) -> list[Field]:
    """Return the fields of a block; raises Broken if it leans on a dynamic table or is none."""
    fields = []
    try:
        at = skip_updates(block)
        while at < len(block):
            end = next_end(block, at)
            fields.append(read_field(block, at, end, huffman))
            at = end
    except IndexError:
        raise _bad("the header block ends early") from None
    return fields


def literal(name: bytes, value: bytes) -> bytes:
    """Return a field as a literal that is never indexed into a table (RFC 7541, section 6.2.2)."""
    return b"\0" + _size(len(name)) + name + _size(len(value)) + value


def _size(size: int) -> bytes:
    if size < 0x7F:
        return bytes((size,))
    coded, size = bytearray((0x7F,)), size - 0x7F
    while size >= 128:
        coded.append(size & 127 | 128)
        size >>= 7
    coded.append(size)
    return bytes(coded)


def literals(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return several fields, in ASCII, as literals."""
    return b"".join(literal(k.encode("ascii"), v.encode("ascii", "replace")) for k, v in fields)


class Stateful:
    """Reads the blocks of a client that has not yet heard that there is no dynamic table."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=_MOST_LISTED)
        self._decoder.max_allowed_table_size = 4096

    def stateless(self, block: bytes) -> bytes:
        """Return the same fields as a block that stands for itself; raises Broken."""
        try:
            fields = self._decoder.decode(block, raw=True)
        except HPACKError as error:
            raise _bad(f"the header block is not understood: {error}") from None
        return b"".join(literal(bytes(field[0]), bytes(field[1])) for field in fields)
