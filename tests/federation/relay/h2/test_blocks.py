"""Header blocks against another implementation, with every way to say a field."""

import pytest
from hpack import Decoder, Encoder
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from federation.relay.h2.blocks import Huffman, Stateful, literal, literals, next_end, walk
from federation.relay.h2.wire import Broken

_CODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def number(value: int, bits: int, first: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    out, value = bytearray((first | most,)), value - most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def string(text: bytes, *, coded: bool) -> bytes:
    said = _CODER.encode(text) if coded else text
    return number(len(said), 7, 0x80 if coded else 0) + said


@st.composite
def representations(draw: st.DrawFn) -> bytes:
    texts = st.binary(max_size=150)
    kind = draw(st.sampled_from(["indexed", "named", "new"]))
    if kind == "indexed":
        return number(draw(st.integers(1, 61)), 7, 0x80)
    bits, first = draw(st.sampled_from([(6, 0x40), (4, 0x00), (4, 0x10)]))
    value = string(draw(texts), coded=draw(st.booleans()))
    if kind == "named":
        return number(draw(st.integers(1, 61)), bits, first) + value
    name = string(draw(st.binary(min_size=1, max_size=150)), coded=draw(st.booleans()))
    return number(0, bits, first) + name + value


@given(st.booleans(), st.lists(representations(), max_size=12))
def test_fields_are_those_that_another_decoder_finds(update: bool, said: list[bytes]) -> None:
    block = (b"\x20" if update else b"") + b"".join(said)
    decoder = Decoder(max_header_list_size=1 << 20)
    decoder.max_allowed_table_size = 4096
    found = walk(block, Huffman())
    assert [(f.name, f.value) for f in found] == [
        (bytes(h[0]), bytes(h[1])) for h in decoder.decode(block, raw=True)
    ]
    assert b"".join(block[f.begin : f.end] for f in found) == b"".join(said)


@given(st.lists(representations(), max_size=5), st.lists(representations(), max_size=5))
def test_a_block_means_the_same_on_every_connection(before: list[bytes], said: list[bytes]) -> None:
    """Whatever a decoder's table holds: that is what lets blocks cross connections."""
    fresh, used = Decoder(), Decoder()
    for decoder in (fresh, used):
        decoder.max_header_list_size = 1 << 20
    used.decode(b"".join(before), raw=True)
    block = b"".join(said)
    walk(block, Huffman())
    assert fresh.decode(b"\x20" + block, raw=True) == used.decode(b"\x20" + block, raw=True)


@given(st.binary(max_size=120))
def test_nonsense_is_broken_or_understood_alike(block: bytes) -> None:
    try:
        found = [(f.name, f.value) for f in walk(block, Huffman())]
    except Broken:
        return
    decoder = Decoder(max_header_list_size=1 << 20)
    assert found == [(bytes(h[0]), bytes(h[1])) for h in decoder.decode(block, raw=True)]


@pytest.mark.parametrize(
    "block",
    [
        b"\xbe",
        b"\x80",
        b"\x7f\x01\x01a",
        b"\x3f\x01",
        b"\x82\x20",
        b"\0\x05ab",
        b"\xff\xff\xff\xff\xff\x01",
    ],
)
def test_what_leans_on_a_table_is_broken(block: bytes) -> None:
    with pytest.raises(Broken):
        walk(block, Huffman())


def test_a_client_that_indexes_is_read_with_its_table() -> None:
    encoder, stateful = Encoder(), Stateful()
    fields = [(b"x-a", b"1"), (b"x-secret", b"two")]
    for _ in range(3):
        block = stateful.stateless(encoder.encode(fields))
        assert [(f.name, f.value) for f in walk(block, Huffman())] == fields
    with pytest.raises(Broken):
        stateful.stateless(b"\xff\xff\xff")


def test_literals() -> None:
    assert literals([("a", "b"), ("c", "d")]) == literal(b"a", b"b") + literal(b"c", b"d")
    long = literal(b"n" * 300, b"v" * 20_000)
    assert next_end(long, 0) == len(long)
    assert repr(Huffman()) == "Huffman(0 known)"
