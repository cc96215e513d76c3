import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from federation.contract.rollout import CanaryRoute
from federation.contract.types import ModelRoute
from federation.relay.paths import InferenceTarget, InferenceVerb
from router.policy import split
from router.policy.access import EVERYONE
from router.policy.quota import Quotas
from router.policy.retry import Failed
from router.policy.signals import Ending
from router.policy.table import Resolved
from router.request.body import Body
from router.request.call import ProxyLimits, read_call
from router.request.client_key import grpc_key, http_key, of_call, settle
from router.request.door import Visit
from tests.fakes.requests import request_with

CANARY = CanaryRoute(rollout="ro", version=2, weights={"eu": 50.0})
ROUTE = ModelRoute(name="m", default_version=1, canary=CANARY)
FAILED = Failed(cluster="c", ending=Ending.REFUSED, reason="no", version=2)
SEQUENCE = b'{"inputs": [], "parameters": {"sequence_id": 17}}'


@pytest.mark.parametrize(
    ("headers", "body", "openai", "key"),
    [
        ({"x-fed-session": "s1"}, b'{"user": "u"}', True, "s1"),
        ({"x-fed-session": "s" * 999}, b"", False, "s" * 200),
        ({}, b'{"model": "m", "user": "u", "prompt_cache_key": "p"}', True, "u"),
        ({}, b'{"model": "m", "prompt_cache_key": "p", "safety_identifier": "i"}', True, "p"),
        ({}, b'{"model": "m", "safety_identifier": "i", "user": null}', True, "i"),
        ({}, b'{"model": "m"}', True, ""),
        ({}, b'{"model": "m", "user": 7}', True, ""),
        ({}, b'{"user": "u"}', False, ""),
        ({}, SEQUENCE, False, "17"),
        ({}, b'{"parameters": {"sequence_id": "abc"}}', False, "abc"),
        ({}, b'{"parameters": {"sequence_id": 0}}', False, ""),
        ({}, b'{"parameters": {"sequence_id": [1]}}', False, ""),
        ({}, b"sequence_id \xff", False, ""),
        ({"Inference-Header-Content-Length": str(len(SEQUENCE))}, SEQUENCE + b"\0\1", False, "17"),
    ],
)
def test_what_tells_a_client_over_http(
    headers: dict[str, str], body: bytes, openai: bool, key: str
) -> None:
    assert http_key(headers, Body(body), openai=openai) == key


def test_a_body_that_is_streamed_or_large_is_not_looked_at() -> None:
    async def rest() -> AsyncIterator[bytes]:
        yield b""

    assert http_key({}, Body(b'{"user": "u"}', rest()), openai=True) == ""
    large = b'{"user": "u", "prompt": "%s"}' % (b"x" * 2**20)
    assert http_key({}, Body(large), openai=True) == ""


def test_what_tells_a_client_over_grpc() -> None:
    assert grpc_key(b"s1", b"") == "s1"
    keys = []
    for value in ({"int64_param": 17}, {"int64_param": 18}, {"string_param": "abc"}):
        request = pb.ModelInferRequest(model_name="m")
        request.parameters["sequence_start"].bool_param = True
        request.parameters["sequence_id"].CopyFrom(pb.InferParameter(**value))
        message = request.SerializeToString()
        keys.append(grpc_key(b"", message))
        request.inputs.add(name="more")
        assert grpc_key(b"", request.SerializeToString()) == keys[-1]
    assert len(set(keys)) == 3
    assert "" not in keys
    assert grpc_key(b"", pb.ModelInferRequest(model_name="m").SerializeToString()) == ""


@settings(max_examples=30)
@given(st.binary(max_size=30))
def test_any_message_has_a_key_or_none(rest: bytes) -> None:
    assert isinstance(grpc_key(b"", b"sequence_id" + rest), str)


async def test_a_request_keeps_its_mark_over_its_attempts() -> None:
    visit = Visit(target=InferenceTarget(InferenceVerb.CHAT), caller=EVERYONE, request_id="r")
    body = b'{"model": "m", "user": "u"}'
    head = {"Content-Length": str(len(body))}
    request = request_with("POST", "/v1/chat/completions", body, head)
    dice, open_ = random.Random(1), Resolved(route=ROUTE, version=1, split=split.of(ROUTE))
    with Quotas().hold(EVERYONE.tenant, 1.0) as hold:
        call = await read_call(request, visit, hold, started_s=1.0, limits=ProxyLimits())
    call.resolved = of_call(call, open_, dice)
    stood = call.resolved.split
    assert stood is not None
    assert (stood.mark, stood.bucket, stood.sticky) == (*split.standing("ro", "u"), True)
    call.failed.append(FAILED)
    again = of_call(call, open_, dice).split
    assert again is not None
    assert (again.mark, again.bucket, tuple(again.failed)) == (stood.mark, stood.bucket, (FAILED,))


def test_what_is_not_split_stays_as_it_is() -> None:
    pinned = Resolved(route=ROUTE, version=2)
    assert settle(pinned, "u", random.Random(1), None, ()) is pinned
