import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract import errors
from federation.relay.h2 import status as statuses
from federation.relay.h2.blocks import Huffman, walk
from federation.relay.h2.status import Status, Unimplemented
from federation.relay.h2.wire import Code


def test_the_numbers_are_those_of_grpc() -> None:
    assert {s.name: int(s) for s in Status} == {c.name: c.value[0] for c in grpc.StatusCode}


def test_statuses_of_errors() -> None:
    assert statuses.of_error(errors.NotFound("x")) is Status.NOT_FOUND
    assert statuses.of_error(errors.TooLarge("x")) is Status.RESOURCE_EXHAUSTED
    assert statuses.of_error(Unimplemented("x")) is Status.UNIMPLEMENTED
    for kind in errors.GRPC_STATUS:
        if kind is not errors.InvalidTransition:
            assert statuses.of_error(kind("x"))


@pytest.mark.parametrize(
    ("http", "status"),
    [(b"401", 16), (b"403", 7), (b"404", 12), (b"429", 14), (b"503", 14), (b"500", 2), (b"", 2)],
)
def test_statuses_of_http(http: bytes, status: int) -> None:
    assert statuses.of_http(http) == status


def test_statuses_of_resets_and_of_nonsense() -> None:
    assert statuses.of_reset(Code.REFUSED_STREAM) is Status.UNAVAILABLE
    assert statuses.of_reset(Code.CANCEL) is Status.CANCELLED
    assert statuses.of_reset(12345) is Status.INTERNAL
    assert statuses.parse(b"5") is Status.NOT_FOUND
    assert statuses.parse(b"99") is statuses.parse(b"x") is statuses.parse(b"") is Status.UNKNOWN


@given(st.text(max_size=200))
def test_messages_survive_the_way(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    said = statuses.fields(Status.INTERNAL, text)
    found = {f.name: f.value for f in walk(said, Huffman())}
    assert found[b"grpc-status"] == b"13"
    assert all(0x20 <= byte <= 0x7E for byte in found[b"grpc-message"])
    assert statuses.words(found[b"grpc-message"]) == text
