"""Protobuf messages, against protobuf itself."""

import itertools

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from federation.contract.errors import FederationError, Invalid, TooLarge
from federation.relay.h2.message import (
    PEEK_BYTES,
    Fields,
    Named,
    ends_between_fields,
    enveloped,
    is_one_message,
    name_fields,
    peek,
    text_field,
)

names = st.text(max_size=40).filter(lambda t: t.encode("utf-8", "ignore").decode() == t)


def infer(name: str, version: str, content: bytes) -> bytes:
    made = pb.ModelInferRequest(model_name=name, model_version=version, id="1")
    made.inputs.add().name = "x"
    made.raw_input_contents.append(content)
    return bytes(made.SerializeToString())


@given(names, names, st.binary(max_size=50))
def test_the_name_is_found_in_any_prefix_that_holds_it(
    name: str, version: str, content: bytes
) -> None:
    message = infer(name, version, content)
    expected = Named(name, version)
    assert peek(message, whole=True) == expected
    for cut in range(len(message)):
        assert peek(message[:cut], whole=False) in (None, expected)


def test_what_cannot_be_told() -> None:
    with pytest.raises(Invalid, match="does not begin"):
        peek(text_field(1, bytes(5000))[:PEEK_BYTES], whole=False)
    with pytest.raises(Invalid, match="breaks off"):
        peek(b"\x0a\x20abc", whole=True)
    with pytest.raises(Invalid, match="UTF-8"):
        peek(b"\x0a\x01\xff", whole=True)
    with pytest.raises(Invalid, match="too long"):
        peek(b"\x0a" + b"\xff" * 11, whole=True)
    assert peek(b"\x1a\x01x", whole=True) == Named("", "")


def follow(message: bytes, cuts: list[int]) -> bool:
    fields = Fields()
    places = sorted({min(cut, len(message)) for cut in cuts} | {0, len(message)})
    for begin, end in itertools.pairwise(places):
        fields.feed(message[begin:end])
    return fields.complete


@given(names, st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=10))
def test_what_is_appended_to_a_sound_message_wins(
    name: str, content: bytes, cuts: list[int]
) -> None:
    message = infer(name, "9", content)
    assert follow(message, cuts)
    read = pb.ModelInferRequest.FromString(message + name_fields("ours", ""))
    assert (read.model_name, read.model_version) == ("ours", "")
    assert read.raw_input_contents == [content]


@given(st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=6))
def test_what_is_appended_wins_or_the_message_is_refused(message: bytes, cuts: list[int]) -> None:
    """The security core: whatever a client sends, if it is let through, ours is what is read."""
    try:
        complete = follow(message, cuts)
    except FederationError:
        return
    if not complete:
        return
    try:
        read = pb.ModelInferRequest.FromString(message + name_fields("ours", "7"))
    except DecodeError:
        return  # the engine refuses it
    assert (read.model_name, read.model_version) == ("ours", "7")


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_pieces_do_not_matter(message: bytes, cuts: list[int]) -> None:
    def outcome(where: list[int]) -> object:
        try:
            return follow(message, where)
        except FederationError as error:
            return error.message

    assert outcome(cuts) == outcome([]) == outcome(list(range(60)))


def test_many_fields_are_too_many() -> None:
    with pytest.raises(TooLarge):
        Fields().feed(b"\x08\x01" * 20_001)


def test_envelopes() -> None:
    assert enveloped(b"abc") == b"\0\0\0\0\x03abc"


@given(st.binary(max_size=40))
def test_what_plainly_ends_between_fields_does(data: bytes) -> None:
    if ends_between_fields(b"12345" + data, 5):
        fields = Fields()
        fields.feed(data)
        assert fields.complete


def test_usual_messages_plainly_end_between_fields() -> None:
    whole = name_fields("m", "1") + text_field(7, bytes(1000))
    assert ends_between_fields(whole, 0)
    assert not ends_between_fields(whole[:-1], 0)
    assert not ends_between_fields(whole + b"\x0a", 0)


def test_one_message_is_told_from_more() -> None:
    body = enveloped(b"abc")
    assert is_one_message(body, 3)
    assert not is_one_message(body, 2)
    assert not any(is_one_message(b, 9) for b in (body[:-1], body + body, b"\1" + body[1:], b""))
