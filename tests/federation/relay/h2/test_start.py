import zlib

import pytest

from federation.contract.errors import Invalid
from federation.relay.h2.flow import Flow
from federation.relay.h2.message import PEEK_BYTES, enveloped
from federation.relay.h2.start import start_of
from federation.relay.h2.status import Unimplemented


def flow(*pieces: bytes, ended: bool = False) -> Flow:
    made = Flow(1 << 20)
    for piece in pieces:
        made.hold(piece)
    made.ended = ended
    return made


def test_the_start_grows_with_what_comes() -> None:
    data = enveloped(b"abcdef")
    assert start_of(flow(data[:3]), b"identity").message == b""
    start = start_of(flow(data[:3], data[3:8]), b"identity")
    assert (start.message, start.size, start.whole) == (b"abc", 6, False)
    start = start_of(flow(data, ended=True), b"identity")
    assert (start.message, start.whole, start.ended) == (b"abcdef", True, True)


def test_what_follows_the_message_is_not_its_start() -> None:
    assert start_of(flow(enveloped(b"a") + enveloped(b"b")), b"identity").message == b"a"
    long = start_of(flow(enveloped(bytes(9000))), b"identity")
    assert (len(long.message), long.whole) == (PEEK_BYTES, False)


def test_compressed_messages_are_looked_into() -> None:
    small = zlib.compress(b"name" + bytes(100_000))
    data = b"\1" + len(small).to_bytes(4, "big") + small
    start = start_of(flow(data), b"deflate")
    assert start.message[:4] == b"name"
    assert (len(start.message), start.whole) == (PEEK_BYTES, False)
    with pytest.raises(Unimplemented):
        start_of(flow(data), b"snappy")
    with pytest.raises(Invalid):
        start_of(flow(b"\1\0\0\0\x03abc"), b"gzip")
