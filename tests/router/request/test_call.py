import pytest

from federation.contract.access import Tenant
from federation.contract.errors import Invalid, TooLarge, Unavailable
from federation.contract.types import ModelProtocol, ModelRoute
from federation.relay.paths import InferenceTarget, InferenceVerb
from router.policy.access import EVERYONE
from router.policy.quota import OverQuota, Quotas
from router.policy.table import Resolved
from router.request.call import Call, ProxyLimits, read_call
from router.request.door import Visit
from tests.fakes.requests import request_of, request_with

INFER = InferenceTarget(InferenceVerb.METADATA, "digits")


def visit(target: InferenceTarget) -> Visit:
    return Visit(target=target, caller=EVERYONE, request_id="r")


def route(protocol: ModelProtocol) -> Resolved:
    return Resolved(route=ModelRoute(name="m", default_version=1, protocol=protocol), version=1)


async def read(headers: dict[str, str]) -> Call:
    request = request_of("GET", "/v2/models/digits", headers)
    limits = ProxyLimits(deadline_s=7.0)
    with Quotas().hold(EVERYONE.tenant, 100.0) as hold:
        return await read_call(request, visit(INFER), hold, started_s=100.0, limits=limits)


async def test_the_clients_deadline_replaces_ours() -> None:
    ours = await read({})
    assert (ours.limits.deadline_s, ours.own_deadline, ours.reference) == (107.0, False, "digits")
    theirs = await read({"x-fed-deadline-ms": "2500"})
    assert (theirs.limits.deadline_s, theirs.own_deadline) == (102.5, True)
    assert repr(theirs).startswith("Call(r, ")


@pytest.mark.parametrize(("size", "hedged"), [(10, True), (256 * 1024, True), (300_000, False)])
async def test_a_large_body_is_at_one_cluster_at_a_time(size: int, hedged: bool) -> None:
    target = InferenceTarget(InferenceVerb.INFER, "digits")
    sized = {"Content-Length": str(size)}
    request = request_with("POST", "/v2/models/digits/infer", b"x" * size, sized)
    with Quotas().hold(EVERYONE.tenant, 100.0) as hold:
        call = await read_call(request, visit(target), hold, started_s=100.0, limits=ProxyLimits())
    assert call.limits.may_hedge is hedged


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5", "3600001", "9" * 5000, "0" * 8 + "9" * 5000, "²", "soon"]
)
async def test_a_deadline_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="between 1 and 3600000"):
        await read({"x-fed-deadline-ms": text})


async def chat(length: int, keep: bool = True, tenant: Tenant | None = None) -> Call:
    head = {"Content-Length": str(length)}
    request = request_with("POST", "/v1/completions", b'{"model": "poet"}', head)
    with Quotas().hold(tenant or EVERYONE.tenant, 1.0) as hold:
        return await read_call(
            request,
            visit(InferenceTarget(InferenceVerb.COMPLETIONS)),
            hold,
            started_s=1.0,
            limits=ProxyLimits(replay_bytes=20),
            keep=lambda _: keep,
        )


async def test_a_body_that_must_be_read_is_refused_when_memory_is_short() -> None:
    assert (await chat(17)).reference == "poet"
    with pytest.raises(Unavailable, match="no memory") as caught:
        await chat(17, keep=False)
    assert caught.value.reason == "memory-short"


async def test_a_body_announced_too_long_to_name_a_model_is_refused_unread() -> None:
    with pytest.raises(TooLarge, match="larger than 20 bytes"):
        await chat(21)


async def test_tokens_are_counted_once_and_only_of_models_that_speak_text() -> None:
    call = await chat(17, tenant=Tenant(name="acme", tokens_per_minute=60))
    call.expect_tokens(route(ModelProtocol.TENSOR), 1.0)
    assert call.meter is None
    for _ in range(9):
        call.expect_tokens(route(ModelProtocol.TEXT), 1.0)
    assert call.hold.headers(1.0)["x-ratelimit-remaining-tokens"] == "5"  # of 10; 17 bytes are 5
    assert call.meter is not None
    call.meter.see(b'{"usage": {"total_tokens": 9}}')
    call.note_usage()
    assert call.hold.used == 9
    other = await chat(17, tenant=Tenant(name="acme", tokens_per_minute=60))
    other.hold.used = 1_000
    other.hold.settle()
    with pytest.raises(OverQuota) as caught:
        other.expect_tokens(route(ModelProtocol.TEXT), 1.0)
    assert (caught.value.reason, caught.value.retry_after_s) == ("tokens-per-minute", 120)
    metadata = await read({})
    metadata.expect_tokens(route(ModelProtocol.TEXT), 1.0)
    assert metadata.meter is None
