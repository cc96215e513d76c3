"""Frames as bytes, read by another implementation."""

from typing import Any

import pytest
from hpack import Decoder
from hyperframe.frame import Frame

from federation.relay.h2 import wire
from federation.relay.h2.blocks import literal


def read(data: bytes) -> Any:
    found, length = Frame.parse_frame_header(memoryview(data[:9]))
    found.parse_body(memoryview(data[9 : 9 + length]))
    assert len(data) == 9 + length
    return found


def test_frames_mean_what_they_should() -> None:
    found = read(wire.settings(((1, 0), (4, 1 << 20))))
    assert dict(found.settings) == {1: 0, 4: 1 << 20}
    assert read(wire.window_update(3, 77)).window_increment == 77
    assert read(wire.reset(3, wire.Code.CANCEL)).error_code == 8
    goaway = read(wire.goaway(9, wire.Code.ENHANCE_YOUR_CALM, "why"))
    assert (goaway.last_stream_id, goaway.error_code, goaway.additional_data) == (9, 11, b"why")


@pytest.mark.parametrize("size", [10, 16_384, 16_385, 50_000])
def test_long_header_blocks_are_continued(size: int) -> None:
    block = literal(b"x", b"v" * size)
    frames = wire.header_frames(1, block, 16_384, last=True)
    data = b"".join(frames)
    payload, at, flags = b"", 0, []
    while at < len(data):
        found, length = Frame.parse_frame_header(memoryview(data[at : at + 9]))
        payload += data[at + 9 : at + 9 + length]
        flags.append(found.flags)
        at += 9 + length
        assert length <= 16_384
    decoder = Decoder(max_header_list_size=1 << 20)
    assert decoder.decode(payload, raw=True) == [(b"x", b"v" * size)]
    assert "END_HEADERS" in flags[-1]
    assert all("END_HEADERS" not in f for f in flags[:-1])
    assert "END_STREAM" in flags[0]
