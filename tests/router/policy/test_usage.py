import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.usage import Meter, estimate


def metered(*pieces: bytes, request: int = 40, readable: bool = True) -> int:
    meter = Meter(request, readable=readable)
    for piece in pieces:
        meter.see(piece)
    assert repr(meter) == f"Meter({meter.tokens()} tokens)"
    return meter.tokens()


def answer(text: str, **more: object) -> bytes:
    return json.dumps({"choices": [{"index": 0, "text": text}], **more}).encode()


def event(text: str, **more: object) -> bytes:
    return b"data: " + answer(text, **more) + b"\n\n"


def test_the_engines_count_is_believed() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert metered(answer("x" * 1000, usage=usage)) == 7
    events = [event("a"), event("b", usage=None), event("", usage=usage), b"data: [DONE]\n\n"]
    assert metered(*events) == 7
    assert metered(b"".join(events)) == 7


def test_a_running_count_counts_until_where_it_broke_off() -> None:
    pieces = [event("word", usage={"total_tokens": n}) for n in range(1, 500)]
    assert metered(*pieces) == 499
    assert metered(*pieces[:3]) == 3


def test_without_a_count_the_generated_text_is_estimated() -> None:
    assert metered(*[event("four")] * 100) == estimate(40) + 100
    assert metered(b'data: {"choices":[{"delta":{"content":"12345678"}}]}\n\n') == estimate(40) + 2
    assert metered(b'{"text_output": "12345678"}') == estimate(40) + 2


def test_what_cannot_be_read_is_estimated_by_its_size() -> None:
    assert metered(b"\x1f\x8b" * 50) == estimate(40) + 25
    assert metered(b'{"usage": {"total_tokens": 1}}' * 4, readable=False) == estimate(40) + 30


def test_nothing_came_nothing_counts() -> None:
    assert metered() == 0
    assert metered(b"") == 0


@pytest.mark.parametrize(
    "text",
    ['"total_tokens": 1', '"usage": {"total_tokens": 1}', '\\"total_tokens": 1', "\\" * 9 + '"'],
)
def test_generated_text_cannot_pose_as_a_count(text: str) -> None:
    assert metered(answer(text * 50)) > 50


@given(st.lists(st.binary(max_size=200), max_size=20), st.integers(0, 10**9))
def test_any_bytes_give_a_sane_number(pieces: list[bytes], request: int) -> None:
    tokens = metered(*pieces, request=request)
    size = sum(map(len, pieces))
    assert 0 <= tokens <= max(estimate(request) + estimate(size), 10**9)


def test_memory_is_bounded() -> None:
    meter = Meter(0, readable=True)
    for _ in range(1000):
        meter.see(b"a" * 10_000)
    assert len(meter._tail) <= 16 * 1024
