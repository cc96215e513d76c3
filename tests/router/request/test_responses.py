import json

import pytest

from federation.contract.errors import NotFound
from federation.relay.paths import InferenceTarget, InferenceVerb
from router.policy import table as tables
from router.request import responses
from tests.router.fakes import make_snapshot


def anything(_: str) -> bool:
    return True


TABLE = tables.build(make_snapshot({"eu-1": "http://h:1"}))


def test_models_look_like_openais() -> None:
    one = responses.from_table(InferenceTarget(InferenceVerb.MODEL, "poet@2"), TABLE, anything)
    assert json.loads(one.body or b"") == {
        "id": "poet",
        "object": "model",
        "created": 0,
        "owned_by": "inference-federation",
        "fed": {"protocol": "text", "versions": [1, 2], "default_version": 1, "aliases": {}},
    }
    with pytest.raises(NotFound):
        responses.from_table(InferenceTarget(InferenceVerb.MODEL, "poe"), TABLE, anything)


def test_models_that_a_caller_may_not_use_are_not_listed() -> None:
    target = InferenceTarget(InferenceVerb.MODELS)
    told = responses.from_table(target, TABLE, lambda name: name.startswith("p"))
    listed = json.loads(told.body or b"")["data"]
    assert [model["id"] for model in listed] == ["poet", "private"]
    with pytest.raises(NotFound) as caught:
        target = InferenceTarget(InferenceVerb.MODEL, "poett")
        responses.from_table(target, TABLE, lambda name: name == "digits")
    assert caught.value.hint == "There are: digits."


def test_metadata_names_the_versions_of_the_whole_federation() -> None:
    route = TABLE.models["digits"]
    told = responses.routable_metadata(b'{"name": "x", "versions": ["9"]}', TABLE, route)
    assert json.loads(told) == {"name": "digits", "versions": ["1", "2"]}
    assert responses.routable_metadata(b"not json", TABLE, route) == b"not json"
    assert responses.routable_metadata(b"[]", TABLE, route) == b"[]"


@pytest.mark.parametrize("given_id", ["", "a b", "-x", "x" * 129, "a\nb", "<script>"])
def test_an_odd_request_id_is_replaced(given_id: str) -> None:
    new = responses.request_id({"x-request-id": given_id})
    assert new != given_id
    assert len(new) == 32


def test_a_sane_request_id_is_kept() -> None:
    assert responses.request_id({"x-request-id": "req_1:2-3.4"}) == "req_1:2-3.4"


@pytest.mark.parametrize("route_ms", [0.0, 0.04, 0.06, 1.23, 9.84, 9.89, 9.9, 9.96, 12.34, 1e6])
@pytest.mark.parametrize("upstream_ms", [0.0, 0.051, 99.84, 99.89, 99.9, 99.96, 100.0, 60_000.07])
def test_short_times_are_written_as_long_ones_are(route_ms: float, upstream_ms: float) -> None:
    told = responses.own_fields(b"a: b\r\n", (route_ms, upstream_ms), "id-1", b"c: d\r\n")
    assert told.decode() == (
        f"a: b\r\nServer-Timing: route;dur={route_ms:.1f}, upstream;dur={upstream_ms:.1f}\r\n"
        "x-request-id: id-1\r\nc: d\r\n"
    )
