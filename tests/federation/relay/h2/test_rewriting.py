"""Bodies changed as they pass, in any pieces."""

import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from federation.contract.errors import FederationError, Invalid, TooLarge
from federation.relay.h2.message import enveloped, name_fields, text_field
from federation.relay.h2.rewriting import (
    AppendingToAnswers,
    AppendingToRequests,
    Framed,
    Replacing,
    Rewriter,
)
from federation.relay.h2.status import Unimplemented

OURS = name_fields("ours", "1")


def passed(rewriter: Rewriter, data: bytes, cuts: list[int]) -> bytes:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    out = b"".join(rewriter.feed(data[begin:end]) for begin, end in itertools.pairwise(places))
    rewriter.finish()
    return out


def messages(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        assert data[at] == 0
        size = int.from_bytes(data[at + 1 : at + 5], "big")
        found.append(data[at + 5 : at + 5 + size])
        assert len(found[-1]) == size
        at += 5 + size
    return found


def named(name: str, content: bytes = b"") -> bytes:
    return name_fields(name, "3") + text_field(7, content)


def compressed(message: bytes, encoding: bytes) -> bytes:
    small = gzip.compress(message) if encoding == b"gzip" else zlib.compress(message)
    return b"\1" + len(small).to_bytes(4, "big") + small


sent = st.lists(st.tuples(st.binary(max_size=60), st.sampled_from([b"", b"gzip"])), max_size=5)


@given(sent, st.lists(st.integers(0, 500), max_size=12))
def test_every_message_ends_in_what_is_appended(
    contents: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    plain = [named("theirs", content) for content, _ in contents]
    data = b"".join(
        compressed(message, encoding) if encoding else enveloped(message)
        for message, (_, encoding) in zip(plain, contents, strict=True)
    )
    rewriter = AppendingToRequests(OURS, encoding=b"gzip", same_model=True)
    found = messages(passed(rewriter, data, cuts))
    assert found == [message + OURS for message in plain]
    for message, (content, _) in zip(found, contents, strict=True):
        read = pb.ModelInferRequest.FromString(message)
        assert (read.model_name, read.model_version) == ("ours", "1")
        assert read.raw_input_contents == [content]


@given(sent, st.lists(st.integers(0, 500), max_size=12))
def test_answers_get_our_name(contents: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    plain = [pb.ModelInferResponse(model_name="m--v1", id=str(c)) for c, _ in contents]
    data = b"".join(enveloped(answer.SerializeToString()) for answer in plain)
    for found, before in zip(
        messages(passed(AppendingToAnswers(OURS), data, cuts)), plain, strict=True
    ):
        read = pb.ModelInferResponse.FromString(found)
        assert (read.model_name, read.model_version, read.id) == ("ours", "1", before.id)


def test_answers_of_streams_keep_their_errors() -> None:
    answer = pb.ModelStreamInferResponse(error_message="no", infer_response={"model_name": "m--v1"})
    (found,) = messages(
        passed(AppendingToAnswers(text_field(2, OURS)), enveloped(answer.SerializeToString()), [])
    )
    read = pb.ModelStreamInferResponse.FromString(found)
    assert (read.error_message, read.infer_response.model_name) == ("no", "ours")


def test_compressed_answers_pass_as_they_are() -> None:
    data = compressed(b"abc", b"gzip")
    assert passed(AppendingToAnswers(OURS), data, [2, 7]) == data
    assert passed(Replacing(lambda _: b"x"), data, [2, 7]) == data


@given(st.lists(st.binary(max_size=50), max_size=4), st.lists(st.integers(0, 250), max_size=9))
def test_whole_messages_are_replaced(contents: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(enveloped, contents))
    assert messages(passed(Replacing(lambda m: m[::-1]), data, cuts)) == [c[::-1] for c in contents]


def test_what_is_refused() -> None:
    def refuse(data: bytes, encoding: bytes = b"gzip", most: int = 1000) -> None:
        passed(
            AppendingToRequests(OURS, encoding=encoding, same_model=True, max_bytes=most), data, []
        )

    with pytest.raises(Invalid, match="inside a message"):
        refuse(enveloped(named("a"))[:-1])
    with pytest.raises(Invalid, match="inside a message"):
        refuse(b"\0\0")
    with pytest.raises(Invalid, match="inside a field"):
        refuse(enveloped(named("a") + b"\x3a\x0b"))
    with pytest.raises(Invalid, match="names another"):
        refuse(enveloped(named("a")) + enveloped(named("b")))
    with pytest.raises(Invalid, match="prefix"):
        refuse(b"\2\0\0\0\0")
    with pytest.raises(TooLarge):
        refuse(b"\0\xff\xff\xff\xff")
    with pytest.raises(TooLarge):
        refuse(compressed(named("a", bytes(5000)), b"gzip"))
    with pytest.raises(Invalid, match="decompressed"):
        refuse(b"\1\0\0\0\x03abc")
    cut = gzip.compress(named("a"))[:-1]
    with pytest.raises(Invalid, match="decompressed"):
        refuse(b"\1" + len(cut).to_bytes(4, "big") + cut)
    with pytest.raises(Unimplemented):
        refuse(compressed(named("a"), b"gzip"), encoding=b"snappy")


def test_two_members_of_gzip_are_one_too_many() -> None:
    small = gzip.compress(named("a")) + gzip.compress(named("b"))
    with pytest.raises(Invalid, match="decompressed"):
        passed(
            AppendingToRequests(OURS, encoding=b"gzip"),
            b"\1" + len(small).to_bytes(4, "big") + small,
            [],
        )


def test_a_frame_needs_somebody_who_knows_what_to_do() -> None:
    with pytest.raises(NotImplementedError):
        Framed().feed(enveloped(b"x"))


@pytest.mark.parametrize(
    "body",
    [
        enveloped(name_fields("m", "1") + text_field(5, bytes(300))),
        enveloped(b""),
        enveloped(b"\x0a\x05m"),
        enveloped(b"\x08\x01" + text_field(1, b"m")),
        enveloped(text_field(1, b"m"))[:-1],
        enveloped(text_field(1, b"m")) * 2,
        b"\1" + enveloped(text_field(1, b"m"))[1:],
    ],
)
def test_a_body_that_comes_at_once_becomes_what_it_becomes_in_pieces(body: bytes) -> None:
    def changed(at_once: bool) -> object:
        rewriter = AppendingToRequests(text_field(1, b"ours"))
        try:
            if at_once:
                return rewriter.at_once(body)
            pieces = [rewriter.feed(body[i : i + 1]) for i in range(len(body))]
            rewriter.finish()
        except FederationError as error:
            return type(error)
        return b"".join(pieces)

    assert changed(at_once=True) == changed(at_once=False)
    answers = [AppendingToAnswers(text_field(1, b"ours")) for _ in range(2)]
    pieces = [answers[0].feed(body[i : i + 1]) for i in range(len(body))]
    assert answers[1].at_once(body) == b"".join(pieces)
