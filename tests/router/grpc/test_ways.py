"""What is known of calls that are alike, and for how long."""

import pytest

from federation.relay.h2.heads import RequestHead
from federation.relay.h2.message import name_fields, text_field
from router.grpc.ways import key_of
from tests.router.grpc.world import eventually, request, world

HEAD = RequestHead(path=b"/a/B", block=b"", kind=7)
REST = text_field(3, b"id")


def test_what_makes_calls_alike() -> None:
    key = key_of(HEAD, name_fields("m", "1") + REST, "a")
    assert key == (7, name_fields("m", "1"), "a")
    assert key_of(HEAD, name_fields("m", "1") + text_field(7, b"other"), "a") == key
    assert key_of(HEAD, text_field(1, b"m") + REST, "a") != key
    assert key_of(HEAD, name_fields("m", "1") + REST, "b") != key


@pytest.mark.parametrize(
    "message",
    [
        b"",
        REST,
        name_fields("m", "1"),  # something may follow
        name_fields("m", "1") + text_field(1, b"n") + REST,  # the last one counts
        name_fields("m", "1") + text_field(2, b"2") + REST,
        text_field(2, b"1") + text_field(1, b"m") + REST,
        text_field(1, b"m" * 200) + REST,
        text_field(1, b"m") + text_field(2, b"1" * 200) + REST,
        b"\x0a\x05mm",
        text_field(1, b"m") + b"\x12\x09x",
    ],
)
def test_what_is_looked_at_in_full(message: bytes) -> None:
    assert key_of(HEAD, message, "a") is None


def test_heads_of_no_known_kind_are_like_no_other() -> None:
    assert key_of(RequestHead(path=b"/a/B", block=b""), name_fields("m", "") + REST, "a") is None


async def test_the_second_call_goes_the_way_of_the_first() -> None:
    async with world("eu-1", "us-1") as w:
        stub = w.stub()
        for _ in range(20):
            answer = await stub.ModelInfer(request())
            assert (answer.model_name, answer.model_version) == ("digits", "2")
        assert repr(w.service.ways) == "Ways(1)"
        assert (await stub.ModelInfer(request("digits", "1"))).model_version == "1"
        assert repr(w.service.ways) == "Ways(2)"
        await stub.ModelInfer(request(), metadata=(("x-request-id", "another"),))
        assert repr(w.service.ways) == "Ways(2)"
        await stub.ModelInfer(request(), metadata=(("x-session-id", "mine"),))  # sticks to one
        assert repr(w.service.ways) == "Ways(2)"
        await eventually(lambda: w.quiet)
