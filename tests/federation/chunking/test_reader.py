"""Reading numbers at any offset; nothing outside the file, nothing without end."""

import pytest

from federation.chunking.reader import Malformed, Reader


def test_numbers_and_bytes() -> None:
    reader = Reader.over(b"\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00tail\xac\x02")
    assert reader.u32(0) == 1
    assert reader.u64(4) == 2
    assert reader.bytes_at(12, 4) == b"tail"
    assert reader.varint(0) == (1, 1)
    assert reader.varint(16) == (300, 18)
    assert reader.bytes_at(18, 0) == b""


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (4, 1), (0, 5), (3, 2), (1 << 70, 1)])
def test_outside_of_the_file(offset: int, length: int) -> None:
    with pytest.raises(Malformed):
        Reader.over(b"1234").bytes_at(offset, length)


@pytest.mark.parametrize("data", [b"\xff", b"\xff" * 20])
def test_a_varint_without_an_end(data: bytes) -> None:
    with pytest.raises(Malformed):
        Reader.over(data).varint(0)


def test_blocks_are_read_as_they_are_needed() -> None:
    data = bytes(range(256)) * 4096
    asked: list[tuple[int, int]] = []

    def read_at(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return data[offset : offset + length]

    reader = Reader(read_at, len(data))
    for offset in range(0, 1000, 7):
        assert reader.bytes_at(offset, 1)[0] == offset % 256
    assert len(asked) == 1
    assert reader.bytes_at(300_000, 200_000) == data[300_000:500_000]
    assert reader.bytes_at(10, 2) == data[10:12]
    assert len(asked) == 3


def test_steps_are_counted() -> None:
    reader = Reader(lambda _, length: bytes(length), 8, max_steps=3)
    for _ in range(3):
        reader.u32(0)
    with pytest.raises(Malformed):
        reader.u32(0)


def test_a_file_that_became_shorter() -> None:
    with pytest.raises(Malformed):
        Reader(lambda _, __: b"", 8).u32(0)
