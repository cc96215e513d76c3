"""What is read of heads, and what of them goes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.relay.h2.blocks import Huffman, literal, walk
from federation.relay.h2.heads import ANSWER, AnswerReader, RequestReader, TooLarge
from federation.relay.h2.wire import Broken, Malformed
from tests.federation.relay.h2.rig import block


def requests() -> RequestReader:
    return RequestReader(
        passes=(b"te", b"content-type", b"x-a"), notes=(b"authorization",), prefixes=(b"grpc-",)
    )


def fields(said: bytes) -> list[tuple[bytes, bytes]]:
    return [(f.name, f.value) for f in walk(said, Huffman())]


def test_only_what_may_pass_goes_on() -> None:
    reader = requests()
    said = block(
        b"/a/B",
        (b"authorization", b"Bearer fed_key_x"),
        (b"x-fed-model", b"other"),
        (b"cookie", b"c"),
        (b"x-a", b"1"),
        (b"grpc-timeout", b"1500m"),
        (b"grpc-encoding", b"gzip"),
    )
    head = reader.read(b"\x20" + said)
    assert (head.path, head.timeout_s, head.encoding) == (b"/a/B", 1.5, b"gzip")
    assert head.one(b"authorization") == b"Bearer fed_key_x"
    names = [name for name, _ in fields(head.block)]
    assert names[:4] == [b":method", b":scheme", b":path", b":authority"]
    assert names[4:] == [b"te", b"content-type", b"x-a", b"grpc-timeout", b"grpc-encoding"]
    assert reader.read(b"\x20" + said) is head
    assert "fed_key" not in repr(head)
    assert "1 heads" in repr(reader)


def test_a_field_that_stands_twice_is_not_one() -> None:
    head = requests().read(block(b"/a/B", (b"authorization", b"a"), (b"authorization", b"b")))
    assert head.noted[b"authorization"] == (b"a", b"b")
    assert head.one(b"authorization") == b""


@pytest.mark.parametrize(
    "more",
    [
        (b"grpc-timeout", b"123456789S"),
        (b"grpc-timeout", b"1"),
        (b"content-type", b"application/grpc"),
        (b"host", b"x"),
        (b"x\x00", b"1"),
        (b"x", b"a\nb"),
        (b":path", b"/x"),
    ],
)
def test_malformed_heads(more: tuple[bytes, bytes]) -> None:
    with pytest.raises(Malformed):
        requests().read(block(b"/a/B", more))


@pytest.mark.parametrize("kind", [b"text/html", b"application/grpcx", b"application/json"])
def test_other_content_types_are_refused(kind: bytes) -> None:
    said = block(b"/a/B").replace(literal(b"content-type", b"application/grpc"), b"")
    with pytest.raises(Malformed):
        requests().read(said)
    with pytest.raises(Malformed):
        requests().read(said + literal(b"content-type", kind))
    assert requests().read(said + literal(b"content-type", b"application/grpc+proto")).path


def test_large_heads_are_told_apart() -> None:
    with pytest.raises(TooLarge):
        requests().read(block(b"/a/B", (b"x", b"v" * 17_000)))


@given(st.binary(max_size=80))
def test_a_reader_never_passes_what_walk_refuses(tail: bytes) -> None:
    try:
        head = requests().read(block() + tail)
    except (Broken, Malformed):
        return
    fields(head.block)


def answers() -> AnswerReader:
    return AnswerReader(
        cut=(b"server",), notes=(b"x-fed-load",), prefixes=(b"x-fed-",), tail=b"x-fed-load"
    )


def test_answers_are_read_and_cut() -> None:
    reader = answers()
    head = reader.read(
        ANSWER + literal(b"server", b"s") + literal(b"x-fed-load", b"7") + literal(b"x-own", b"1")
    )
    assert (head.http_status, head.noted) == (b"200", {b"x-fed-load": b"7"})
    assert fields(head.block) == [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"x-own", b"1"),
    ]
    trailers = reader.read(literal(b"grpc-status", b"5") + literal(b"grpc-message", b"no%20model"))
    assert (trailers.grpc_status, trailers.message) == (b"5", b"no%20model")


def test_what_always_differs_at_the_end_is_read_apart() -> None:
    reader = answers()
    for load in (b"1", b"1234", b"5678", b"1", b"34567"):
        head = reader.read(ANSWER + literal(b"x-fed-load", load))
        assert head.noted == {b"x-fed-load": load}
        assert head.block == ANSWER
    assert repr(reader) == "AnswerReader(2 known)"  # without a load, and with the short one


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_reading_the_end_apart_changes_nothing(front: bytes, value: bytes) -> None:
    said = front + b"\0\x0ax-fed-load" + bytes((len(value),)) + value
    plain = AnswerReader(cut=(b"server",), notes=(b"x-fed-load",), prefixes=(b"x-fed-",))
    try:
        expected = plain.read(said)
    except Broken:
        with pytest.raises(Broken):
            answers().read(said)
        return
    assert answers().read(said) == expected
