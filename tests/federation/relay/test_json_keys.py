import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.relay.json_keys import says_twice


@pytest.mark.parametrize(
    ("document", "twice"),
    [
        (b"{}", False),
        (b'{"model": "a"}', False),
        (b'{"model": "a", "model": "a"}', True),
        (b'{"model": "a", "x": 1, "mod\\u0065l" :"b"}', True),
        (b'{"\\u006Dodel": "a", "\\u006D\\u006F\\u0064\\u0065\\u006C"\r\n\t :"b"}', True),
        (b'{"model": "a", "x": {"model": "b"}}', False),
        (b'{"x": {"model": "b", "model": "c"}, "model": "a"}', False),
        (b'{"x": {"model": "b"}, "x": 1, "model": "a"}', True),
        (b'{"model": "a", "prompt": "say \\"model\\": b"}', False),
        (b'{"model": "a", "prompt": "model", "say": "\\"model\\":"}', False),
        (b'{"model": "a", "x\\"model": "b"}', False),
        (b'{"model": "a", "\\\\model": "b", "Model": "c", "model ": "d"}', False),
        (b'{"model": {"model": 1}, "model": 2}', True),
        (b'{"x": [{"model": 1}, {"model": 2}], "model": "a"}', False),
    ],
)
def test_only_the_top_level_counts_in_any_spelling(document: bytes, twice: bool) -> None:
    assert says_twice(document, "model") is twice


def test_no_object_is_told() -> None:
    with pytest.raises(msgspec.DecodeError):
        says_twice(b'["model":1, "model":2]', "model")


_KEYS = st.sampled_from(["model", "x", "mode", 'q"model', "é"])
_VALUES = st.recursive(
    st.sampled_from([1, None, "model", '"model":', "\\", '\\"model":']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.tuples(_KEYS, _VALUES), max_size=6), st.booleans())
def test_as_a_reader_that_keeps_all_pairs_would_see_it(
    pairs: list[tuple[str, Any]], escaped: bool
) -> None:
    def spelled(key: str) -> str:
        return json.dumps(key).replace("mod", "m\\u006fd") if escaped else json.dumps(key)

    document = "{" + ", ".join(f"{spelled(k)}: {json.dumps(v)}" for k, v in pairs) + "}"
    names = [name for name, _ in pairs]
    if len(set(names)) == len(names):
        assert not says_twice(document.encode(), "model")
    if names.count("model") > 1:
        assert says_twice(document.encode(), "model")


@pytest.mark.parametrize("unit", [b'"model":1,', b'"m', b'"\\u006do', b'{"model":', b" "])
def test_a_large_document_is_scanned_quickly(unit: bytes) -> None:
    document = b'{"model": 1, ' + unit * (8_000_000 // len(unit))
    started = time.thread_time()
    with pytest.raises(msgspec.DecodeError):
        says_twice(document + b'"model":"', "model")
    assert time.thread_time() - started < 2
