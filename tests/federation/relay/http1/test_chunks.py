import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.relay.http1.chunks import LAST, ChunkReader, chunk
from federation.relay.http1.heads import BadMessage


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_content_comes_through_however_it_is_cut(pieces: list[bytes], data: st.DataObject) -> None:
    raw, rest = b"".join(map(chunk, pieces)) + LAST, b"GET /"
    reader, content, fed = ChunkReader(), b"", raw + rest
    while not reader.done:
        size = data.draw(st.integers(1, max(len(fed), 1)))
        part, fed = fed[:size], fed[size:]
        got, used = reader.feed(part)
        content += got
        if reader.done:
            assert part[used:] + fed == rest
        else:
            assert used == len(part)
    assert content == b"".join(pieces)


@pytest.mark.parametrize(
    "raw",
    [
        b"+1\r\n", b"0x1\r\n", b"1_0\r\n", b" 1\r\n", b"1 \r\n", b"\r\n", b"g\r\n", b"1\n", b"1\r1",
        b"1\r\nab\r\n", b"1\r\na\nb", b"1;a\nb\r\n", b"1;\0\r\n", b"f" * 16, b"1;" + b"a" * 5000,
        b"0\r\nno colon\r\n", b"0\r\n folded: x\r\n", b"0\r\n" + b"a: b\r\n" * 101,
    ],
)  # fmt: skip
def test_anything_but_the_plain_way_is_refused(raw: bytes) -> None:
    with pytest.raises(BadMessage):
        ChunkReader().feed(raw)
    with pytest.raises(BadMessage):
        reader = ChunkReader()
        for at in range(len(raw)):
            reader.feed(raw[at : at + 1])


def test_extensions_and_trailers_are_read_and_dropped() -> None:
    reader = ChunkReader()
    raw = b'2;a="b"\r\nhi\r\n0;x\r\nContent-Length: 9\r\n\r\nmore'
    assert reader.feed(raw) == (b"hi", len(raw) - 4)
    assert reader.done
    assert repr(reader) == "ChunkReader(done=True, left=0)"


def test_no_content_is_no_chunk() -> None:
    assert chunk(b"") == b""
    assert chunk(b"0123456789abcdef") == b"10\r\n0123456789abcdef\r\n"
