import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from federation.relay.server import BodyLimits
from router.request.body import Body, asks_nothing, openai_model, read, timeout_s, unreplayable
from tests.fakes.requests import request_with


@given(st.binary())
def test_any_bytes_name_a_model_or_are_refused(body: bytes) -> None:
    with contextlib.suppress(Invalid):
        assert openai_model(Body(body), {})


@pytest.mark.parametrize("body", [b'{"model": "\xff"}', b'{"x":' + b"[" * 100_000, b"", b"null"])
def test_bodies_that_break_parsers_are_refused(body: bytes) -> None:
    with pytest.raises(Invalid, match=r"not valid JSON|does not fit"):
        openai_model(Body(body), {})


def test_the_model_is_read_whatever_stands_beside_it() -> None:
    body = Body(b'{"messages": [{"model": "inner"}], "model": "poet@2", "n": null}')
    assert openai_model(body, {}) == "poet@2"
    with pytest.raises(Invalid, match="compressed"):
        openai_model(body, {"Content-Encoding": "gzip"})


def test_only_the_json_head_marks_a_sequence() -> None:
    head = b'{"inputs": []}'
    body = Body(head + b'"sequence_id"')
    length = {"Inference-Header-Content-Length": str(len(head))}
    assert unreplayable(body, length) == ""
    assert "sequence" in unreplayable(body, {})
    assert "sequence" in unreplayable(body, {"Inference-Header-Content-Length": "x"})
    assert "never" in unreplayable(Body(b""), {"x-federation-replay": " Never "})
    assert unreplayable(Body(b"{}"), {"x-federation-replay": "yes"}) == ""


@pytest.mark.parametrize("before", [0, 1, 63, 64, 65, 200])
def test_a_sequence_is_found_whatever_stands_before_it(before: int) -> None:
    for end, found in ((b'{"sequence_id": 1}', True), (b'"sequence_x"', False), (b"seq", False)):
        assert bool(unreplayable(Body(b"q " * before + end), {})) is found
        assert bool(unreplayable(Body(b"q" * before + end), {})) is found


async def test_a_body_with_a_rest_is_sent_whole_and_once() -> None:
    async def rest() -> AsyncIterator[bytes]:
        yield b"c"
        yield b"d"

    body = Body(b"ab", rest(), 4)
    assert "too large" in unreplayable(body, {})
    outgoing = body.outgoing()
    assert not isinstance(outgoing, bytes | tuple)
    assert [chunk async for chunk in outgoing] == [b"ab", b"c", b"d"]
    assert Body(b"ab").outgoing() == (b"ab",)


async def test_what_memory_has_no_room_for_is_streamed_after_what_was_read() -> None:
    request = request_with("POST", "/", b"abc", {"Content-Length": "6"})
    body = await read(request, BodyLimits(), 100, lambda _: False)
    assert (body.kept, body.length) == (b"abc", 6)
    assert request.body is not None
    request.body.feed(b"def")
    assert body.rest is not None
    assert [chunk async for chunk in body.rest] == [b"def"]
    assert "memory for that was short" in unreplayable(body, {})


def test_the_time_that_a_v2_request_allows_itself() -> None:
    asked = b'{"parameters": {"timeout": 2500000}, "inputs": []}'
    assert timeout_s(Body(asked), {}) == 2.5
    tensors = {"Inference-Header-Content-Length": str(len(asked))}
    assert timeout_s(Body(asked + b"\x00\xff"), tensors) == 2.5
    for odd in (b"{}", b'{"timeout": 1}', b'{"parameters": {"timeout": 0}}', b'"timeout"', b"\xff"):
        assert timeout_s(Body(odd), {}) is None


@given(st.lists(st.sampled_from(["m", "t", "mm" * 40, "meout", '\\"ti']), max_size=8))
def test_a_timeout_is_found_behind_whatever_stands_before_it(before: list[str]) -> None:
    name = "".join(before)
    document = f'{{"name": "{name}", "parameters": {{"timeout": 5000000}}}}'
    assert timeout_s(Body(document.encode()), {}) == 5.0
    other = document.replace('"timeout"', '"timeouts"')
    assert timeout_s(Body(other.encode()), {}) is None


def test_a_body_stays_in_its_pieces_until_it_is_wanted_as_one() -> None:
    pieces = b'{"inputs": [', b"1, 2", b"]}"
    body = Body(pieces)
    assert (body.size, repr(body)) == (18, "Body(18 bytes)")
    assert (timeout_s(body, {}), unreplayable(body, {})) == (None, "")
    assert body.beginning(3) == b'{"i'
    assert body.outgoing() is pieces
    assert body.beginning(14) == b'{"inputs": [1,'
    assert body.kept == b"".join(pieces)
    assert body.outgoing() == (b"".join(pieces),)
    assert (Body(()).kept, Body(()).size) == (b"", 0)


@given(st.integers(0, 50), st.integers(0, 50))
def test_what_a_body_asks_for_is_found_across_its_pieces(first: int, second: int) -> None:
    asked = b'{"parameters": {"timeout": 5000000, "sequence_id": 7}}'
    first, second = sorted((first, second))
    body = Body((asked[:first], asked[first:second], asked[second:]))
    assert timeout_s(body, {}) == 5.0
    again = Body((asked[:first], asked[first:second], asked[second:]))
    assert "sequence" in unreplayable(again, {})


async def test_a_large_body_is_kept_in_the_pieces_in_which_it_came() -> None:
    request = request_with("POST", "/", b"", {"Content-Length": "20000"})
    assert request.body is not None
    reading = asyncio.ensure_future(read(request, BodyLimits(), 1 << 20))
    sent = b"a" * 10_000, b"b" * 10_000
    for piece in sent:
        await asyncio.sleep(0)
        request.body.feed(piece)
        request.body.wake()
    body = await reading
    assert body.rest is None
    assert body.outgoing() == sent


@given(
    st.lists(st.sampled_from([b"u", b'"', b'"time', b'out"', b'"sequ', b"ence_", b"q", b"m" * 70])),
    st.lists(st.integers(0, 400), max_size=6),
    st.sampled_from([b"", b"u" * 80]),
)
def test_a_body_is_quiet_if_none_of_the_words_stands_in_it(
    words: list[bytes], cuts: list[int], before: bytes
) -> None:
    content = before + b"".join(words)
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    body = Body(tuple(content[a:b] for a, b in pairwise(places)))
    asks = b'"timeout"' in content or b'"sequence_' in content
    assert body.quiet is not asks
    long = content + b" " * 5000
    assert asks_nothing(long) is not asks
