import pytest
from aiohttp.test_utils import make_mocked_request

from federation.contract.errors import Invalid
from federation.relay.paths import InferenceTarget, InferenceVerb
from router.call import Call, ProxyLimits, read_call

INFER = InferenceTarget(InferenceVerb.METADATA, "digits")


async def read(headers: dict[str, str]) -> Call:
    request = make_mocked_request("GET", "/v2/models/digits", headers)
    request.content.feed_eof()
    limits = ProxyLimits(deadline_s=7.0)
    return await read_call(request, INFER, request_id="r", started_s=100.0, limits=limits)


async def test_the_clients_deadline_replaces_ours() -> None:
    ours = await read({})
    assert (ours.limits.deadline_s, ours.own_deadline, ours.reference) == (107.0, False, "digits")
    theirs = await read({"x-fed-deadline-ms": "2500"})
    assert (theirs.limits.deadline_s, theirs.own_deadline) == (102.5, True)
    assert repr(theirs).startswith("Call(r, ")


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5", "3600001", "9" * 5000, "0" * 8 + "9" * 5000, "²", "soon"]
)
async def test_a_deadline_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="between 1 and 3600000"):
        await read({"x-fed-deadline-ms": text})
