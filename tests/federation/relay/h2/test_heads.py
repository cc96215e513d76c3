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
    assert names[4:] == [b"te", b"content-type", b"x-a", b"grpc-encoding", b"grpc-timeout"]
    assert reader.read(b"\x20" + said).block == head.block
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


APART = (b"traceparent", b"x-request-id")
VARYING = (
    (b"traceparent", b"00-ab-cd-01"),
    (b"x-request-id", b"one"),
    (b"grpc-timeout", b"99999u"),
    (b"x-a", b"1"),
    (b"x-a", b"\0\x0btraceparent\x01"),  # looks like another field, and is no sound value
    (b"x-a", b"longer than what is cut out of it"),
    (b"cookie", b"c"),
)


def varied() -> RequestReader:
    return RequestReader(
        passes=(b"te", b"content-type", b"x-a", b"traceparent"),
        notes=(b"x-request-id",),
        prefixes=(b"grpc-",),
        apart=APART,
    )


def outcome_of(reader: RequestReader, said: bytes) -> object:
    try:
        head = reader.read(said)
    except (Malformed, Broken) as error:
        return type(error)
    found = sorted(fields(head.block)[4:])
    return fields(head.block)[:4], found, head.path, head.timeout_s, dict(head.noted)


@given(st.lists(st.lists(st.sampled_from(VARYING), max_size=5), min_size=2, max_size=6))
def test_heads_that_differ_in_some_fields_say_what_they_say_alone(
    heads: list[list[tuple[bytes, bytes]]],
) -> None:
    one = varied()
    for more in heads:
        said = block(b"/a/B", *more)
        assert outcome_of(one, said) == outcome_of(varied(), said)
        full = varied()
        full._differing = ()
        assert outcome_of(one, said) == outcome_of(full, said)


@given(st.data())
def test_wherever_a_field_is_put_in_it_is_read_as_if_it_were_not_known(data: st.DataObject) -> None:
    said = block(b"/a/B", (b"x-a", b"1"), (b"cookie", b"c"))
    more = literal(*data.draw(st.sampled_from(VARYING[:3])))
    at = data.draw(st.integers(0, len(said)))
    full, one = varied(), varied()
    full._differing = ()
    one.read(said)
    whole = said[:at] + more + said[at:]
    assert outcome_of(one, whole) == outcome_of(full, whole)


def test_what_differs_each_time_makes_no_new_heads() -> None:
    reader = varied()
    kinds = set()
    for number in range(50):
        more = (b"traceparent", b"00-%d-01" % number), (b"grpc-timeout", b"%dm" % (1000 + number))
        head = reader.read(block(b"/a/B", *more))
        kinds.add(head.kind)
        assert head.timeout_s == pytest.approx(1.0 + number / 1000)
        assert b"00-%d-01" % number in head.block
    assert len(kinds) == 1
    assert "1 heads" in repr(reader)


def test_a_field_that_would_be_too_much_is_refused() -> None:
    reader = varied()
    large = [(b"cookie", b"c" * 8000), (b"x-a", b"1" * 8000)]
    reader.read(block(b"/a/B", *large))
    with pytest.raises(TooLarge):
        reader.read(block(b"/a/B", *large, (b"traceparent", b"t" * 120)))
