import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.gateway.names import Naming

NAMING = Naming("filetype--v2", "filetype", 2)
TRITON = (
    b'{"model_name":"filetype--v2","model_version":"1","outputs":[{"name":"label",'
    b'"datatype":"BYTES","shape":[1],"data":["python"]}]}'
)


@pytest.mark.parametrize(
    ("given_bytes", "expected"),
    [
        (TRITON, TRITON.replace(b'--v2","model_version":"1"', b'","model_version":"2"')),
        (
            b'{"id":"7","model_name":"filetype--v2","model_version":"1","parameters":{}',
            b'{"id":"7","model_name":"filetype","model_version":"2","parameters":{}',
        ),
        (
            b'{ "model_name" : "filetype--v2" , "model_version" : "1" }',
            b'{ "model_name" : "filetype" , "model_version" : "2" }',
        ),
        (
            b'{"object":"x","model": "filetype--v2","y":1}',
            b'{"object":"x","model": "filetype","y":1}',
        ),
        (b'{"model_name":"filetype--v2"}', b'{"model_name":"filetype"}'),
        (b'{"model_name":"filetype--v22","a":1}', b'{"model_name":"filetype--v22","a":1}'),
        (b'{"model_name":"other"}', b'{"model_name":"other"}'),
        (b"\x00\xff", b"\x00\xff"),
        (b"", b""),
    ],
)
def test_the_engines_name_and_version_become_ours(given_bytes: bytes, expected: bytes) -> None:
    assert NAMING.in_head(given_bytes) == expected


def test_only_the_first_field_is_touched_and_never_a_string_that_quotes_it() -> None:
    quoted = json.dumps({"id": '"model_name":"filetype--v2"', "model_name": "filetype--v2"})
    renamed = json.loads(NAMING.in_head(quoted.encode()))
    assert renamed == {"id": '"model_name":"filetype--v2"', "model_name": "filetype"}


def test_the_start_is_decided_once_the_version_must_have_come() -> None:
    assert not NAMING.is_decided(TRITON[:10])
    assert not NAMING.is_decided(TRITON[:40])
    assert NAMING.is_decided(TRITON + b" " * 100)


def test_an_errors_text_loses_the_engines_name_everywhere() -> None:
    text = b"'filetype--v2' is not found; filetype--v2. filetype--v21"
    assert NAMING.in_text(text) == b"'filetype' is not found; filetype. filetype--v21"


def test_metadata_gets_our_name_and_version() -> None:
    document = {"name": "filetype--v2", "versions": ["1"], "platform": "p", "inputs": []}
    assert json.loads(NAMING.in_metadata(json.dumps(document).encode())) == {
        "name": "filetype",
        "versions": ["2"],
        "platform": "p",
        "inputs": [],
    }


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"])
def test_metadata_that_is_no_object_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        NAMING.in_metadata(body)


async def pieces(data: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    at = 0
    for cut in sorted(cuts):
        yield data[at:cut]
        at = max(at, cut)
    yield data[at:]


@given(st.lists(st.integers(min_value=0, max_value=400), max_size=20))
async def test_events_are_renamed_wherever_the_network_cuts_them(cuts: list[int]) -> None:
    event = b'data: {"model_name":"filetype--v2","model_version":"1","text_output":"x\\n"}\n\n'
    expected = b'data: {"model_name":"filetype","model_version":"2","text_output":"x\\n"}\n\n'
    stream = event * 3 + b": a comment\n\n" + event + b"data: [DONE]"
    renamed = [chunk async for chunk in NAMING.in_events(pieces(stream, cuts))]
    assert b"".join(renamed) == expected * 3 + b": a comment\n\n" + expected + b"data: [DONE]"


async def test_an_event_goes_on_as_soon_as_its_line_is_whole() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'data: {"model_name":"filetype--v2"}\n\nda'
        raise AssertionError("the first event was held back")

    first = await anext(NAMING.in_events(endless()))
    assert first == b'data: {"model_name":"filetype"}\n\n'
